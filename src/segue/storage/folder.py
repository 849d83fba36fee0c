"""A folder of shared storage, by fsspec (https://filesystem-spec.readthedocs.io)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .addresses import joined, plain, scheme_of
from .entries import StoredFile, name_of, stamp, written
from .errors import NothingThereError, RefusedError, StorageError, explained, first_line

_PASSWORD = re.compile(r"[^/]*://[^/@]*:[^/@]*@")

_WITHOUT_FOLDERS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory")
"""Object stores, in which an object is there whole or not at all, and needs no folder."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

RANGE_BYTES, RANGES = 8 << 20, 8
"""Of an object, so much is read at a time, in so many requests side by side."""


class Storage:
    """A folder of a store.

    Args:
        address: of the folder; nothing is asked of the store yet.

    Raises:
        StorageError: there is no such kind of store, or its package is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec  # late: most commands need none

        self.address = plain(address)
        scheme = scheme_of(self.address)
        if "::" in address:
            raise StorageError(f"{address}: a chain of addresses; name one")
        if any(part in (".", "..") for part in self.address.split("/")):
            raise StorageError(f"{address}: addresses have no . and no .. in them")
        if _PASSWORD.match(self.address):
            raise StorageError(
                f"{scheme}://…: an address with a password shows in lists of processes and in "
                "logs; leave it out, and set it where the store's own tools look for it"
            )
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise StorageError(
                f"{address}: no kind of storage is called {scheme}; there are s3, gs and others of "
                "fsspec"
            ) from None
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            needs = f'pip install "segue[{extra}]"' if extra else first_line(error)
            raise StorageError(f"{address}: {scheme} needs a package; {needs}") from None
        self._without_folders = scheme in _WITHOUT_FOLDERS
        with explained(address):
            self._fs, path = fsspec.core.url_to_fs(self.address, **_patience(scheme))
            self._path: str = path.rstrip("/")

    def files(self) -> dict[str, StoredFile]:
        """List the files of the folder, by their names, without those of its subfolders.

        Raises:
            StorageError: there is no such folder, or the store refuses.
        """
        found = {}
        for entry in self._entries():
            name = name_of(entry)
            if entry["type"] == "file" and name:
                if entry["name"].strip("/") == self._path.strip("/"):
                    raise StorageError(f"{self.address}: a file; name the folder that it lies in")
                found[name] = StoredFile(int(entry["size"] or 0), stamp(entry))
        return found

    def is_empty(self) -> bool:
        """Tell whether nothing is stored there, in which case there may be no such folder.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        try:
            return not self._entries()
        except NothingThereError:
            return True

    def folders(self) -> list[str]:
        """List the names of its subfolders.

        Raises:
            StorageError: see `files`.
        """
        return sorted(filter(None, (name_of(e) for e in self._entries() if e["type"] != "file")))

    def _entries(self) -> list[dict[str, Any]]:
        with explained(self.address):
            self._fs.invalidate_cache()
            entries: list[dict[str, Any]] = self._fs.ls(self._path, detail=True)
        own = self._path.strip("/")
        return [e for e in entries if e["type"] == "file" or e["name"].strip("/") != own]

    def read(self, name: str) -> bytes:
        """Read a small file whole.

        Raises:
            StorageError: there is no such file, or the store refuses.
        """
        with explained(joined(self.address, name)):
            content: bytes = self._fs.cat_file(f"{self._path}/{name}")
        return content

    def size(self, name: str) -> int:
        """Return the size of a file, in bytes.

        Raises:
            NothingThereError: there is no such file.
            StorageError: the store refuses, or does not answer.
        """
        with explained(joined(self.address, name)):
            self._fs.invalidate_cache()
            return int(self._fs.info(f"{self._path}/{name}")["size"])

    def fetch(self, name: str, size: int, part: Path) -> Iterator[int]:
        """Append to `part` what it lacks of a file.

        Args:
            name: of the file.
            size: of the file, in bytes.
            part: the beginning of it, which may be empty or not be there.

        Yields:
            The number of its bytes that are stored.

        Raises:
            StorageError: the store refuses, or sends something else.
            OSError: the disk is full, or cannot be written to.
        """
        path = f"{self._path}/{name}"
        with part.open("ab") as out:
            while (done := out.tell()) < size:
                ends = [
                    min(size, done + (n + 1) * RANGE_BYTES)
                    for n in range(RANGES)
                    if done + n * RANGE_BYTES < size
                ]
                starts = [done, *ends[:-1]]
                with explained(joined(self.address, name)):
                    chunks = self._fs.cat_ranges([path] * len(ends), starts, ends, on_error="raise")
                if [len(chunk) for chunk in chunks] != [
                    end - start for start, end in zip(starts, ends, strict=True)
                ]:
                    raise StorageError(
                        f"{joined(self.address, name)}: the store sent another number of bytes "
                        "than it announced; try again"
                    )
                for chunk in chunks:
                    out.write(chunk)
                out.flush()
                yield out.tell()

    def put(self, file: Path, name: str) -> None:
        """Store a file of this machine under a name, whole or not at all; replace what is there.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        final = f"{self._path}/{name}"
        with explained(joined(self.address, name), writing=True):
            if self._without_folders:
                self._fs.put_file(str(file), final)
                return
            self._fs.makedirs(self._path, exist_ok=True)
            temporary = f"{self._path}/.segue-{secrets.token_hex(6)}.part"
            try:
                self._fs.put_file(str(file), temporary)
                self._fs.mv(temporary, final)
            except BaseException:
                with suppress(Exception):
                    self._fs.rm_file(temporary)
                raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        with explained(joined(self.address, name), writing=True), suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._path}/{name}")

    def remove_folder(self, name: str) -> None:
        """Remove a subfolder and all that is in it, if it is there.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        with explained(joined(self.address, name), writing=True), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            self._fs.rm(f"{self._path}/{name}", recursive=True)

    def older_than(self, seconds: float) -> list[str]:
        """List what was written longer ago, here and in all subfolders, by its path from here.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        with explained(self.address), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            before = datetime.now(UTC) - timedelta(seconds=seconds)
            found: dict[str, Any] = self._fs.find(self._path, detail=True)
            return [
                path.removeprefix(self._path).strip("/")
                for path, entry in found.items()
                if written(entry) < before
            ]
        return []

    def check(self) -> None:
        """Find out before a long computation that the store answers, and has the bucket.

        Whether it lets us write is found when something is written: not all that may be written to
        may be listed.

        Raises:
            StorageError: it does not, or has not.
        """
        root = self._path.strip("/").partition("/")[0]
        if self._without_folders and scheme_of(self.address) != "memory":
            with suppress(RefusedError), explained(self.address, writing=True):
                self._fs.invalidate_cache()
                self._fs.info(root)


def _patience(scheme: str) -> dict[str, Any]:
    """Options that let a store which cannot be reached be known for that in less than a minute."""
    from fsspec.config import conf  # what the user set comes first

    if _EXTRAS.get(scheme) != "s3" or "config_kwargs" in conf.get(scheme, {}):
        return {}
    return {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 30,
            "retries": {"max_attempts": 1},
        }
    }
