"""Quantized checkpoints, made on first use and kept on disk: the next start maps them.

Several workers may share them: one makes, and those that want the same wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...checkpoints.opening import open_checkpoint
from ...checkpoints.recipe import Recipe
from ...errors import CheckpointError, OutputError
from ...progress import Progress

_SECONDS_BETWEEN_TRIES = 0.1


class QuantizedCache:
    """A folder of checkpoints in segue's own layout.

    Args:
        folder: where they lie; made when it is needed.
        limit: bytes that they may take together; the least recently used are removed first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def find_or_make(
        self, source: str, base: str | None, recipe: Recipe, progress: Progress
    ) -> Path | None:
        """Return the folder of a quantized checkpoint; quantize and save it if there is none.

        Args:
            source: name of the checkpoint for `hub.locate`.
            base: the base model of a fine-tune, where opening it needs one.
            recipe: how it is quantized.
            progress: shows the quantization.

        Returns:
            The folder; None if it cannot be saved, and must be quantized in memory.

        Raises:
            CheckpointError: the checkpoint itself cannot be used.
        """
        checkpoint = open_checkpoint(source, base, progress)
        # Imported here, because MLX quantizes, whichever engine generates.
        from ...checkpoints.quantize import save_quantized
        from ...quantization.methods import VERSIONS

        identity = _identity(checkpoint.folder, VERSIONS[recipe.method])
        folder = self._folder / f"{_plain(source)}-{identity}-{recipe.name}"
        if not folder.is_dir():
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._alone(progress):
                    if not folder.is_dir():
                        save_quantized(checkpoint, recipe, folder, progress=progress)
            except (CheckpointError, OutputError, OSError) as error:
                # No room on the disk, or no text encoder, which this request may not need.
                print(f"{folder.name} is not kept: {error}", file=sys.stderr)  # noqa: T201
                return None
            self._evict(keep=folder)
        os.utime(folder)
        return folder

    def remove_unfinished(self) -> None:
        """Remove what a worker that was killed left half written, unless one writes now."""
        if not self._folder.is_dir():
            return
        with self._lock_file().open("ab") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self._folder.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)

    def _lock_file(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}.lock")

    @contextmanager
    def _alone(self, progress: Progress) -> Iterator[None]:
        """Wait until no other process makes a checkpoint, and let none begin."""
        with self._lock_file().open("ab") as lock:
            with progress.stage("wait for another worker") as advance:
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        advance(0)  # who is cancelled stops here
                        time.sleep(_SECONDS_BETWEEN_TRIES)
            yield

    def _evict(self, keep: Path) -> None:
        folders = [f for f in self._folder.iterdir() if f.is_dir()]
        folders.sort(key=lambda f: (f == keep, f.stat().st_mtime), reverse=True)
        total = 0
        for folder in folders:
            with suppress(OSError):  # another may be removing it
                total += sum(path.stat().st_size for path in folder.iterdir())
            if total > self._limit and folder != keep:
                shutil.rmtree(folder, ignore_errors=True)


def _plain(source: str) -> str:
    return re.sub(r"[^\w.-]+", "-", source.removeprefix("/"))[-60:].lstrip("-.")


def _identity(folder: Path, version: int) -> str:
    """Changes when the files of a checkpoint do, or the integers that a method gives them."""
    files = sorted(
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    )
    return hashlib.sha256(repr((str(folder), version, files)).encode()).hexdigest()[:12]
