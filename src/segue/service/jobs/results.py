"""Inputs and results in shared storage, so that fronts of one queue need no folder in common.

What a front decodes or makes lies in its own folder, as ever, and before a row names it at the same
path below the address, too.  What another front made is fetched when it is read here.  So the
folder of a front is a cache of what it has seen, but for what it is working at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...atomic import replacing
from ...storage import NothingThereError, Storage, StorageError, joined, plain
from .database import UnreachableError

log = logging.getLogger("segue.service")


class ResultsGoneError(UnreachableError):
    """The store of results does not answer, or refuses; the same may go well later."""

    what = "the store of results cannot be reached"


class Results:
    """The files of a store's folder at an address.

    Args:
        address: of a folder in shared storage.
        folder: of this front.

    Attributes:
        address: the same.
        gone: whether the store could not be used when it was used last.

    Raises:
        StorageError: there is no such kind of store, or its package is not installed.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self._folder = plain(address), folder
        self.gone = False
        Storage(self.address)

    def check(self, name: str) -> None:
        """Find out whether it can be written to.

        Args:
            name: of the file that is written and removed, which nobody else uses now.

        Raises:
            StorageError: it cannot.
        """
        storage, probe = Storage(joined(self.address, "probes")), self._folder / name
        probe.write_bytes(b"segue")
        try:
            storage.put(probe, name)
            storage.remove(name)
        finally:
            probe.unlink(missing_ok=True)
        self.gone = False

    def put(self, paths: Iterable[Path]) -> None:
        """Store files; each is there whole or not at all.

        Args:
            paths: in the folder.

        Raises:
            ResultsGoneError: the store does not answer, or refuses.
        """
        with self._reached():
            for path in paths:
                self._storage_of(path).put(path, path.name)

    def fetch(self, path: Path) -> None:
        """Bring a file into the folder, if it is stored; it is there whole or not at all.

        Args:
            path: that it has in the folder.

        Raises:
            ResultsGoneError: the store does not answer, or refuses.
            OSError: the disk is full.
        """
        with self._reached(), suppress(NothingThereError):
            storage = self._storage_of(path)
            size = storage.size(path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                for _ in storage.fetch(path.name, size, temporary):
                    pass

    def remove(self, path: Path) -> None:
        """Remove what is stored of a file, or of a folder and all that is in it.

        Where the store does not answer it stays, until `remove_unnamed`.
        """
        try:
            with self._reached():
                storage = self._storage_of(path)
                if path.suffix:
                    storage.remove(path.name)
                else:
                    storage.remove_folder(path.name)
        except ResultsGoneError as error:
            log.warning("what was removed is stored still", extra={"reason": str(error)})

    def remove_unnamed(self, inputs: set[str], jobs: set[str], age_seconds: float) -> None:
        """Remove what no row names: what was removed while the store did not answer, say.

        Args:
            inputs: ids of those that there are.
            jobs: ids of those that there are.
            age_seconds: how old a file must be, since others may be about to write its row.
        """
        try:
            with self._reached():
                storage = Storage(self.address)
                for name in storage.older_than(age_seconds):
                    kind, _, rest = name.partition("/")
                    known = {"inputs": inputs, "jobs": jobs}.get(kind)
                    id_ = rest.partition("/")[0].removesuffix(".wav")
                    if known is not None and id_ not in known:
                        storage.remove(name)
        except ResultsGoneError as error:
            log.warning("what no job has is stored still", extra={"reason": str(error)})

    def _storage_of(self, path: Path) -> Storage:
        inside = path.parent.relative_to(self._folder).as_posix()
        return Storage(joined(self.address, inside))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except NothingThereError:
            self.gone = False
            raise
        except StorageError as error:
            self.gone = True
            raise ResultsGoneError(str(error)) from error
        self.gone = False
