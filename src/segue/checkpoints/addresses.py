"""Checkpoints and adapters in shared storage: `s3://BUCKET/PATH`, fetched into segue's cache.

The cache is `$XDG_CACHE_HOME/segue/storage/NAME-ADDRESS/VERSION/NAME/FILE`: ADDRESS is a hash of
the address, and VERSION one of what the store says of the needed files, so that what was changed
there is fetched again.  A folder VERSION is there whole or not at all.  Until it is, its files lie
in `.VERSION.part`, where an interrupted fetch goes on, by one process at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import atomic
from ..caching import cache_folder
from ..errors import CheckpointError
from ..progress import Progress
from ..storage import (
    Storage,
    StorageError,
    StoredFile,
    UnreachableStoreError,
    base_name,
    joined,
    plain,
)
from . import diagnosis
from .files import CONFIG, FileChoice

log = logging.getLogger("segue.storage")

_SECONDS_BETWEEN_TRIES = 0.1
_SECONDS_KEPT = 24 * 3600.0
"""For how long a version that was replaced is kept after it was used last."""

_TRIES = 3
"""A checkpoint that is replaced while it is fetched is begun anew so often."""


def fetch(
    address: str,
    files: FileChoice,
    progress: Progress,
    copies: Callable[[], Path | None] = lambda: None,
) -> Path:
    """Fetch what is needed of a folder in shared storage, unless it is here as it is there.

    Args:
        address: of the folder.
        files: which of its files are needed.
        progress: receives one stage, in bytes over all files.
        copies: finds the copy to use where the store does not answer.

    Returns:
        The folder on this machine.

    Raises:
        CheckpointError: there is no such folder, nothing of use in it, the store refuses, or the
            disk is full; one line.
    """
    try:
        return _fetched(address, files, progress)
    except UnreachableStoreError as error:
        if (copy := copies()) is None:
            raise CheckpointError(f"{error}, and there is no copy of it here") from None
        log.warning("%s; the copy that was fetched before is used", error)
        return copy
    except StorageError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot store {address} in {_root(address)}: {reason}") from None


def copies_of(address: str) -> list[Path]:
    """Return the folders of what was fetched of an address, those first that were used last."""
    try:
        folders = [path for path in _root(address).iterdir() if not path.name.startswith(".")]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [path / base_name(address) for path in folders]
    except (OSError, CheckpointError):
        return []


def sizes(address: str, files: FileChoice) -> tuple[int, int]:
    """Ask a store how large a folder is: bytes of what is needed, and of what is not here of it.

    Raises:
        CheckpointError: see `fetch`.
    """
    try:
        needed = _needed(Storage(address), files)
    except StorageError as error:
        raise CheckpointError(str(error)) from None
    total = sum(file.size for file in needed.values())
    here = (_root(address) / _version(address, needed)).is_dir()
    return total, 0 if here else total


@dataclass(frozen=True)
class StoredFolder:
    """A folder in shared storage that holds what was looked for.

    Attributes:
        address: of it.
        config: its `config.json`; empty if it has none.
        bytes: of the files that are needed, by their names.
    """

    address: str
    config: bytes
    bytes: Mapping[str, int]

    @property
    def name(self) -> str:
        """The last part of its address."""
        return base_name(self.address)


@lru_cache(64)
def folders_at(address: str, files: FileChoice) -> tuple[StoredFolder, ...]:
    """Find the folders that `files` chooses something in: the address itself, or those in it.

    A store is asked once in a process: what comes later is found by the next one.

    Raises:
        CheckpointError: there is no such folder, or the store refuses or does not answer.
    """
    try:
        storage = Storage(address)
        if own := _chosen(storage, files):
            return (own,)
        inside = (Storage(joined(address, name)) for name in storage.folders())
        return tuple(filter(None, (_chosen(each, files) for each in inside)))
    except StorageError as error:
        raise CheckpointError(str(error)) from None


def _chosen(storage: Storage, files: FileChoice) -> StoredFolder | None:
    there = storage.files()
    needed = [name for name in files.select(there, storage.read) if name in there]
    if not needed:
        return None
    config = storage.read(CONFIG) if CONFIG in there else b""
    return StoredFolder(storage.address, config, {name: there[name].size for name in needed})


def _fetched(address: str, files: FileChoice, progress: Progress) -> Path:
    storage, root = Storage(address), _root(address)
    for _ in range(_TRIES):
        needed = _needed(storage, files)
        version = root / _version(address, needed)
        if not version.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            with _alone(root / ".lock", progress) as locked:
                part = root / f".{version.name}.part"
                if not locked:  # a network disk without locks: nobody else's part is touched
                    part = root / f".{version.name}-{secrets.token_hex(4)}.part"
                if not version.is_dir() and not _complete(storage, files, needed, part, progress):
                    continue
                if locked:
                    _remove_others(root, version)
        with suppress(OSError):  # only tells which was used last
            os.utime(version)
        return version / base_name(address)
    raise CheckpointError(f"{address} is changed while it is fetched; try again later")


def _complete(
    storage: Storage,
    files: FileChoice,
    needed: Mapping[str, StoredFile],
    part: Path,
    progress: Progress,
) -> bool:
    """Fetch a version, or what is missing of it; False where it is another by then."""
    address = storage.address
    folder = part / base_name(address)
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(file.size for file in needed.values())
    stored = sum(path.stat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if total - stored > free:
        raise CheckpointError(
            f"{address} needs {(total - stored) / 1e9:.1f} GB more, and {part.parent} has "
            f"{free / 1e9:.1f} GB; make room, or set XDG_CACHE_HOME to a folder on another disk"
        )
    with progress.stage(f"download {address}", total, "B") as advance:
        before = 0
        for name, file in needed.items():
            begun = folder / f"{name}.incomplete"
            if not (folder / name).is_file():
                for done in storage.fetch(name, file.size, begun):
                    advance(before + done)
                atomic.publish(begun, folder / name)
            before += file.size
            advance(before)
    if _needed(storage, files) != needed:
        shutil.rmtree(part)
        return False
    version = part.with_name(_version(address, needed))
    try:
        part.rename(version)
    except OSError:  # where there are no locks, another process was first
        if not version.is_dir():
            raise
        shutil.rmtree(part)
    return True


def _needed(storage: Storage, files: FileChoice) -> dict[str, StoredFile]:
    """The files that are needed.

    Raises:
        CheckpointError: there are none, or some are missing.
        StorageError: the store refuses.
    """
    there = storage.files()
    names: Collection[str] = files.select(there, storage.read)
    if not names:
        if (problem := diagnosis.diagnose_file_names(there)) is not None:
            raise CheckpointError(f"{storage.address}: {problem}")
        raise CheckpointError(
            f"{storage.address} holds nothing that segue reads; it looks for {files.description}"
        )
    if absent := [name for name in names if name not in there]:
        raise CheckpointError(f"{storage.address} is not whole: no {', '.join(absent)}")
    return {name: there[name] for name in names}


def _root(address: str) -> Path:
    cache = cache_folder("storage")
    if cache is None:
        raise CheckpointError(
            f"{address}: there is no folder to fetch it into; set XDG_CACHE_HOME to one that can "
            "be written to"
        )
    name = re.sub(r"[^\w.-]+", "-", base_name(address))[-60:].lstrip("-.")
    return cache / f"{name}-{_hash(plain(address))}"


def _version(address: str, needed: Mapping[str, StoredFile]) -> str:
    return _hash(repr((plain(address), sorted((n, f.size, f.stamp) for n, f in needed.items()))))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[bool]:
    """Wait until no other process fetches from an address; yield whether none begins now.

    The system releases the lock however the process ends.
    """
    with lock.open("ab") as held:
        locked = _try_lock(held.fileno())
        if locked is False:
            with progress.stage("wait for another process that fetches the same") as advance:
                while not (locked := _try_lock(held.fileno())) and locked is not None:
                    advance(0)  # who is cancelled stops here
                    time.sleep(_SECONDS_BETWEEN_TRIES)
        yield bool(locked)


def _try_lock(handle: int) -> bool | None:
    """Whether the lock is ours now; None where the disk has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_others(root: Path, version: Path) -> None:
    """Remove what was begun of other versions, and those that nobody used for a day."""
    long_ago = time.time() - _SECONDS_KEPT
    for path in root.iterdir():
        begun = path.name.startswith(".") and path.suffix == ".part"
        with suppress(OSError):
            if path.is_dir() and path != version and (begun or path.stat().st_mtime < long_ago):
                shutil.rmtree(path, ignore_errors=True)
