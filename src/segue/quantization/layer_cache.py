"""What GPTQ has done, on disk: the layers it has rounded, and the hidden states to go on from."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np

from .. import atomic
from ..errors import RequestError
from .windows import CHUNK_ROWS, Rows

MAX_BYTES = 8 << 30
"""Of all layers that are kept; MusicGen-large at 4 bits has 1.4 GB."""

KEPT_SECONDS = 60.0
"""After which hidden states are kept again: what a kill may cost, beside a layer."""

_HIDDEN = "hidden-before-{}.f32"


def cache_folder(method: str = "gptq") -> Path:
    """Return where a method keeps things: `$XDG_CACHE_HOME/segue/METHOD`, or in `~/.cache`."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = home if home.is_absolute() else Path.home() / ".cache"  # relative ones are ignored
    return root / "segue" / method


def sweep(root: Path, keep: Path, limit: int = MAX_BYTES) -> None:
    """Delete what was not used for longest, until the rest has at most `limit` bytes.

    Args:
        root: see `cache_folder`.
        keep: the folder that was just used, which stays.
        limit: bytes.
    """
    with suppress(OSError):
        os.utime(keep)
        folders = sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        total = 0
        for folder in folders:
            total += sum(file.stat().st_size for file in folder.iterdir())
            if total > limit and folder != keep:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass
class LayerCache:
    """One recipe's layers of one model and music.

    Attributes:
        folder: holds them alone.
        clock: seconds; says when hidden states are kept again, and nothing else.
    """

    folder: Path
    clock: Callable[[], float] = time.monotonic
    _kept_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._kept_at = self.clock()

    def make(self) -> None:
        """Make the folder.

        Raises:
            RequestError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"{self.folder}: cannot be made ({error.strerror}); point XDG_CACHE_HOME to a "
                "folder with room"
            ) from None

    def file(self, n: int | None) -> Path:
        """Return the file of a layer, or of the heads."""
        return self.folder / ("heads.safetensors" if n is None else f"layer-{n}.safetensors")

    def write(self, n: int | None, arrays: Mapping[str, mx.array]) -> None:
        """Keep the parts of a layer's modules, whole or not at all."""
        mx.eval(arrays)
        path = self.file(n)
        with atomic.replacing(path, durable=True) as temporary, temporary.open("wb") as target:
            mx.save_safetensors(target, dict(arrays))

    def keep_hidden(self, n: int, rows: Rows) -> None:
        """Keep the hidden states before layer `n`, if it is time to; older ones go.

        Where there is no room for them, they are not kept: layers that are done still count.
        """
        now = self.clock()
        if now - self._kept_at < KEPT_SECONDS:
            return
        path = self.folder / _HIDDEN.format(n)
        with suppress(OSError):
            with atomic.replacing(path, durable=True) as temporary:
                _write_rows(temporary, rows)
            self._forget(but=path)
        self._kept_at = self.clock()

    def hidden_before(self) -> int:
        """Return the layer before which hidden states are kept; 0 for none."""
        kept = (path.stem.rpartition("-")[2] for path in self._hidden_files())
        return max((int(n) for n in kept if n.isdigit()), default=0)

    def read_hidden(self, n: int, rows: Rows) -> bool:
        """Set rows to the hidden states before layer `n`.

        Returns:
            False if what is kept cannot be used; then the rows may be anything.
        """
        path = self.folder / _HIDDEN.format(n)
        count, columns = rows.shape
        try:
            if path.stat().st_size != 4 * count * columns:
                return False
            with path.open("rb") as file:
                for start in range(0, count, CHUNK_ROWS):
                    size = min(CHUNK_ROWS, count - start)
                    part = np.fromfile(file, "<f4", size * columns)
                    rows.write(start, part.reshape(size, columns))
        except (OSError, ValueError):
            return False
        return True

    def finish(self) -> None:
        """Forget hidden states: all layers are done."""
        self._forget()

    def _hidden_files(self) -> list[Path]:
        return list(self.folder.glob(_HIDDEN.format("*")))

    def _forget(self, but: Path | None = None) -> None:
        for path in self._hidden_files():
            if path != but:
                path.unlink(missing_ok=True)


def _write_rows(path: Path, rows: Rows) -> None:
    with path.open("wb") as file:
        for start in range(0, rows.shape[0], CHUNK_ROWS):
            part = rows.read(start, min(start + CHUNK_ROWS, rows.shape[0]))
            file.write(np.ascontiguousarray(part, "<f4").data)
