"""Named tensors on disk, read lazily: when they are taken, and only then.

A checkpoint of gigabytes must not be in memory twice.  So nothing is read when a file is opened:
shapes come from its header, each tensor is a memory map of its own, and `Tensors.take` hands over
the only reference to it: once copied to where it is needed, its pages are unmapped.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from . import diagnosis
from .files import unreadable

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""Element types of safetensors files, by the names in their headers."""


_WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_forward_module)\.")
_PREFIXES = ("module.", "model.", "lm.")


@dataclass(frozen=True)
class Tensor:
    """One tensor that has not been read yet.

    Attributes:
        shape: its shape.
        read: maps or computes it; the array may be read-only.
        source: the file that holds it.
        entry: its name there, if that is a safetensors file and holds it unchanged.
        part_of: the tensor that it is rows of, and the number of the first row.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    source: Path
    entry: str | None = None
    part_of: tuple[Tensor, int] | None = None

    def map(self, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """Return a tensor of `shape` that applies `change` to this one when it is read."""
        return Tensor(shape, lambda: change(self.read()), self.source)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of this one."""
        rows = self.map((stop - start, *self.shape[1:]), lambda whole: whole[start:stop])
        return replace(rows, part_of=(self, start))


def joined(parts: Sequence[Tensor]) -> list[Tensor]:
    """Replace `parts` by one tensor if they are, in this order, all rows of it."""
    whole = parts[0].part_of and parts[0].part_of[0]
    row = 0
    for part in parts:
        if whole is None or part.part_of is None or part.part_of[0] is not whole:
            return list(parts)
        if part.part_of[1] != row:
            return list(parts)
        row += part.shape[0]
    return [whole] if whole is not None and row == whole.shape[0] else list(parts)


class Tensors(dict[str, Tensor]):
    """Tensors by name."""

    def take(self, name: str) -> np.ndarray:
        """Read a tensor and remove it, so that its memory is released with the array."""
        return self.pop(name).read()

    def under(self, prefix: str) -> Tensors:
        """Return the tensors whose names start with `prefix`, without the prefix."""
        return Tensors({n[len(prefix) :]: t for n, t in self.items() if n.startswith(prefix)})


def of_arrays(arrays: Mapping[str, np.ndarray], source: Path) -> Tensors:
    """Make tensors of arrays that exist already (memory maps of a torch file).

    Each array is released when its tensor is taken.
    """

    def tensor(array: np.ndarray) -> Tensor:
        return Tensor(array.shape, lambda: array, source)

    return Tensors({name: tensor(array) for name, array in arrays.items()})


def unwrapped(state: Tensors) -> Tensors:
    """Rename the tensors of `state` without the wrappers that the model was trained in.

    torch.compile, FSDP and Fabric insert a name for each wrapped module; DataParallel (`module.`)
    and Lightning (the attribute, mostly `model.`) put one before all names.

    Raises:
        CheckpointError: two tensors would have one name.
    """
    names = {name: _WRAPPERS.sub("", name) for name in state}
    while names and (
        prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in names.values())), None)
    ):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    renamed = Tensors({names[name]: tensor for name, tensor in state.items()})
    if len(renamed) != len(state):
        twice = next(n for n in names.values() if list(names.values()).count(n) > 1)
        raise CheckpointError(f"{renamed[twice].source}: the tensor {twice!r} is there twice")
    return renamed


def open_safetensors(path: Path) -> Tensors:
    """Open a safetensors file, of which each tensor is mapped separately when it is read.

    The library checks the header (sizes, overlaps, that the file is whole); the offsets are then
    read from it, because the library only returns copies.  Format: eight bytes of header length,
    little endian, a JSON header, the data (https://github.com/huggingface/safetensors).

    Raises:
        CheckpointError: the file cannot be read, is damaged, cut short or something else, or holds
            a type segue does not read.
    """
    try:
        with path.open("rb") as file:
            if (problem := diagnosis.diagnose_head(file.read(512))) is not None:
                raise CheckpointError(f"{path}: {problem}")
            with safe_open(path, framework="numpy"):
                pass
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); download it again"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    header.pop("__metadata__", None)
    return Tensors({n: _mapped(path, 8 + length, n, entry) for n, entry in header.items()})


def _mapped(path: Path, start: int, name: str, entry: Mapping[str, Any]) -> Tensor:
    if entry["dtype"] not in DTYPES:
        raise CheckpointError(f"{path}: tensor {name!r} has the type {entry['dtype']}")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    first, last = entry["data_offsets"]
    offset, length = start + first, last - first

    def read() -> np.ndarray:
        if 0 in shape:
            return np.zeros(shape, dtype)
        # Not np.memmap, which takes ten times as long: a saved checkpoint has thousands of tensors.
        before = offset % mmap.ALLOCATIONGRANULARITY
        with path.open("rb") as file:
            pages = mmap.mmap(
                file.fileno(), length + before, offset=offset - before, access=mmap.ACCESS_READ
            )
        return np.ndarray(shape, dtype, pages, before)

    return Tensor(shape, read, path, entry=name)
