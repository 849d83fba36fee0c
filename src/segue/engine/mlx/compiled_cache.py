"""Where MLX's CUDA library keeps what it compiles: with what segue compiles, not in /tmp.

It compiles some of its kernels when they are first used, seconds each, and keeps them in a folder
for temporary files, which a restart may empty.  The names of its files say neither for which GPU
nor of which version they are, and it writes them in place: one that was cut off would fail to load
ever after.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import mlx.core as mx

from ...caching import cache_folder
from .device import on_cuda

VARIABLE = "MLX_PTX_CACHE_DIR"
"""Read by MLX when it first compiles; where it is set, it stays."""

ELF_HEADER = struct.Struct("<32x Q Q 6x H H H H 2x")
"""Of an ELF file of 64 bits: where program and section headers are, and size and number of each."""


def keep_compiled() -> None:
    """Have MLX keep what it compiles in segue's cache folder, if it computes with CUDA."""
    if VARIABLE in os.environ or not on_cuda():
        return
    version = mx.__version__  # type: ignore[attr-defined]
    folder = cache_folder(f"mlx-cuda/{version}/{mx.device_info()['architecture']}")
    if folder is not None:
        remove_cut_off(folder)
        os.environ[VARIABLE] = str(folder)


def remove_cut_off(folder: Path) -> None:
    """Delete compiled kernels that are not whole."""
    for path in folder.rglob("*.ptx"):
        with suppress(OSError):
            if not _whole(path):
                path.unlink()


def _whole(path: Path) -> bool:
    """Whether a file has all that its ELF header names; what is no ELF file is text."""
    with path.open("rb") as file:
        start = file.read(ELF_HEADER.size)
    if not start.startswith(b"\x7fELF"):
        return bool(start)
    if len(start) < ELF_HEADER.size:
        return False
    programs, sections, *sizes = ELF_HEADER.unpack(start)
    ends = programs + sizes[0] * sizes[1], sections + sizes[2] * sizes[3]
    return bool(max(ends) <= path.stat().st_size)
