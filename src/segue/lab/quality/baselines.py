"""A cache on disk of what baselines were measured to be, which every variant is compared with.

An entry is a `.npz` file named by what it was made from: the checkpoint, the variant, the audio,
the machine and the code.  Zip files carry checksums, so one that was damaged is seen and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import zipfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import SUFFIX, replacing
from ...checkpoints.checkpoint import Checkpoint
from ...errors import RequestError
from ...model import CPU_ENGINES
from ...progress import SILENT, Progress
from ..machine import machine
from ..variant import Variant

Arrays = Mapping[str, np.ndarray]

MAX_BYTES = 4 << 30
"""Of all entries together; what was not used for longest goes first.  30 s of a mono MusicGen are
49 MB."""

UNFINISHED_SECONDS = 24 * 3600
"""After which a temporary file was left by a process that ended."""

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 4096


class BaselineCache:
    """Entries in `$XDG_CACHE_HOME/segue/quality`, by default `~/.cache/segue/quality`.

    Raises:
        RequestError: the folder cannot be made or written to.
    """

    def __init__(self) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The specification wants relative paths ignored.
        try:
            root = home if home.is_absolute() else Path.home() / ".cache"
        except RuntimeError:
            raise RequestError(
                "there is no home folder to keep the baseline's distributions in; point "
                "XDG_CACHE_HOME to a folder with room"
            ) from None
        self.folder = root / "segue" / "quality"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def read(self, key: str, names: Collection[str]) -> dict[str, np.ndarray] | None:
        """Return the arrays of an entry; None if none is whole and has these `names`."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in names}
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return arrays

    def entry(self, key: str, names: Collection[str]) -> dict[str, np.ndarray]:
        """Return the arrays of an entry that was written before.

        Raises:
            RequestError: it was deleted meanwhile.
        """
        arrays = self.read(key, names)
        if arrays is None:
            raise RequestError(f"{self.folder}: was emptied in the meantime; run it again")
        return arrays

    def write(self, key: str, arrays: Arrays) -> None:
        """Write an entry, whole or not at all.

        Raises:
            RequestError: the disk is full, or the folder cannot be written to.
        """
        try:
            with replacing(self._path(key)) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            raise self._unwritable(error) from None

    def sweep(self, limit: int = MAX_BYTES) -> None:
        """Delete what was not used for longest, until the rest has at most `limit` bytes."""
        entries = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # somebody else may be sweeping, too
                stat = path.stat()
                if path.suffix == ".npz":
                    entries.append((stat.st_mtime_ns, stat.st_size, path))
                elif path.suffix == SUFFIX and time.time() - stat.st_mtime > UNFINISHED_SECONDS:
                    path.unlink()
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > limit:
                with suppress(OSError):
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _unwritable(self, error: OSError) -> RequestError:
        return RequestError(
            f"{self.folder}: the baseline's distributions cannot be kept here ({error.strerror}); "
            "point XDG_CACHE_HOME to a folder with room"
        )


def key_of(origin: Mapping[str, Any], kind: str, samples: np.ndarray, *details: Any) -> str:
    """Return the name of an entry: what it is made from, hashed.

    Args:
        origin: from `origin_of`.
        kind: what the entry holds.
        samples: the audio that is encoded.
        details: whatever else counts.
    """
    facts = json.dumps([origin, kind, samples.shape, str(samples.dtype), details], sort_keys=True)
    digest = hashlib.sha256(facts.encode())
    digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()


def origin_of(
    checkpoint: Checkpoint,
    variant: Variant,
    engine: str,
    text: str,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return all that decides the outputs of a variant, but for the audio that it is given.

    Args:
        checkpoint: opened.
        variant: how it runs.
        engine: what runs it, `"mlx"`, `"native"` or `"openvino"`.
        text: what is described.
        progress: shown while the text encoder is looked for.

    Raises:
        CheckpointError: there is text, and no text encoder.
    """
    tensors = [*checkpoint.lm.values(), *checkpoint.codec.values()]
    if text:
        tensors += checkpoint.text(progress).tensors.values()
    files = sorted({tensor.source for tensor in tensors if tensor.source.is_file()})
    return {
        "checkpoint": [_fingerprint(path) for path in files],
        "config": repr(checkpoint.config),
        "variant": variant.to_json(),
        "text": text,
        "code": _code(),
        "libraries": sorted(
            f"{found.name} {found.version}"
            for found in distributions()
            if found.name.split("-")[0] in ("mlx", "openvino", "numpy", "soxr", "tokenizers")
        ),
        "engine": engine,
        "machine": [platform.node(), machine(), _device(engine)],
    }


def _device(engine: str) -> str:
    # Late, because an engine's library takes a while to import, and may not be installed.
    if engine in CPU_ENGINES:
        from ...engine.openvino.runtime import device_name
    else:
        from ...engine.mlx.device import device_name
    return device_name()


def _fingerprint(path: Path) -> list[Any]:
    """A file's size, time, and blocks from all over it: copies and checkouts may share times."""
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for n in range(_SAMPLED_BLOCKS):
            file.seek(n * max(0, stat.st_size - _BLOCK_BYTES) // (_SAMPLED_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return [stat.st_size, stat.st_mtime_ns, digest.hexdigest()]


def _code() -> str:
    """A digest of the code that entries come from: who changes it must not compare with before."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in _sources(package):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(package: Path) -> Iterable[Path]:
    yield from sorted(package.glob("*.py"))
    for folder in ("audio", "checkpoints", "engine"):
        yield from sorted((package / folder).rglob("*.py"))
    yield from sorted((package / "engine" / "native" / "c").iterdir())
    for name in ("distances", "free_running", "request", "teacher_forced"):
        yield package / "lab" / "quality" / f"{name}.py"
