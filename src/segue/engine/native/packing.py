"""Weights as the library reads them: what `struct matrix` in `c/segue_native.h` points to."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import ml_dtypes
import numpy as np

from ..openvino.packed import Packed, unpacked
from .structures import (
    BFLOAT16,
    BLOCK,
    FLOAT16,
    FLOAT32,
    FLOAT_BIAS,
    HALF_BIAS,
    PACKED,
    ZERO_POINT,
    Matrix,
)

STORED_BITS = {2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 8: 8}
"""Bits that a weight of some bits takes in memory; those between powers of two are widened."""

GROUP_SIZES = (32, 64, 128)

HUGE_PAGE = 1 << 21
CHUNK = 32 << 20
"""Bytes that are asked of the system at once; those that are not written take no memory."""

ALIGNMENT = 64
"""Bytes of which words begin at a multiple: no vector of them lies in two lines of a cache."""


def zeros(count: int) -> np.ndarray:
    """`count` bytes of zeros that begin a page, which take memory when they are written.

    Large ones lie on huge pages, where the system has them.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    memory = mmap.mmap(-1, max(count, 1), **private)  # shared memory has no huge pages
    if count >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)[:count]


class Chunks:
    """Memory for the matrices of a model, beside each other in the order in which they are read.

    They lie on huge pages, where the system has them, which single matrices would not fill.
    """

    def __init__(self) -> None:
        self._left = np.zeros(0, np.uint8)

    def take(self, count: int) -> np.ndarray:
        """`count` bytes of zeros that begin at a multiple of `ALIGNMENT`."""
        whole = -(-count // ALIGNMENT) * ALIGNMENT
        if whole > len(self._left):
            memory = zeros(max(whole, CHUNK) + HUGE_PAGE)
            self._left = memory[-memory.ctypes.data % HUGE_PAGE :]
        taken, self._left = self._left[:count], self._left[whole:]
        return taken


def _filled(rows: np.ndarray) -> np.ndarray:
    """`(blocks, BLOCK, ...)` of rows `(N, ...)`, the last block filled up with zeros."""
    missing = -len(rows) % BLOCK
    if missing:
        rows = np.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)])
    return rows.reshape(-1, BLOCK, *rows.shape[1:])


def float_matrix(
    values: np.ndarray, take: Callable[[int], np.ndarray] = zeros
) -> tuple[Matrix, np.ndarray]:
    """A matrix `(rows, columns)` of floats in the narrowest type that holds it exactly.

    Args:
        values: its numbers.
        take: gives so many bytes of zeros to keep it in.

    Returns:
        The matrix, and the memory that it points to.
    """
    kind, stored = FLOAT32, values
    for narrow, name in ((FLOAT16, np.dtype(np.float16)), (BFLOAT16, np.dtype(ml_dtypes.bfloat16))):
        with np.errstate(over="ignore"):
            rounded = values.astype(name)
        if np.array_equal(rounded.astype(np.float32), values):
            kind, stored = narrow, rounded
            break
    blocks = _filled(stored)
    memory = take(blocks.nbytes)
    whole = memory.view(stored.dtype).reshape(len(blocks), values.shape[1], BLOCK)
    whole[...] = blocks.transpose(0, 2, 1)
    rows, columns = values.shape
    return Matrix(data=memory.ctypes.data, rows=rows, columns=columns, kind=kind), memory


def packable(packed: Packed) -> bool:
    """Whether a quantized matrix stays packed; others are computed in floats, exactly."""
    params = packed.params
    return (
        params.mode == "affine"
        and params.bits in STORED_BITS
        and params.group_size in GROUP_SIZES
        and packed.biases is not None
    )


def packed_matrix(
    packed: Packed, take: Callable[[int], np.ndarray] = zeros
) -> tuple[Matrix, np.ndarray]:
    """A matrix that is `packable`.

    How a group is scaled is chosen so that no scale or bias is rounded: zero points
    where all biases are multiples of their scales, float16 where all are such numbers.

    Args:
        packed: its numbers.
        take: see `float_matrix`.

    Returns:
        See `float_matrix`.
    """
    assert packed.biases is not None  # noqa: S101 - `packable` says so
    bits, group = STORED_BITS[packed.params.bits], packed.params.group_size
    words = packed.weight
    if bits != packed.params.bits:
        words = _repacked(unpacked(packed.weight, packed.params.bits), bits)
    rows, groups = packed.scales.shape
    kind, fields = _heads(packed.scales, packed.biases, bits)
    blocks, per_group = -(-rows // BLOCK), group * bits // 32
    heads = sum(field.itemsize for field in fields) * groups * BLOCK
    heads = -(-heads // ALIGNMENT) * ALIGNMENT
    record = heads + groups * per_group * BLOCK * 4
    memory = take(blocks * record)
    records, at = memory.reshape(blocks, record), 0
    for field in fields:
        taken = records[:, at : at + field.itemsize * groups * BLOCK].view(field.dtype)
        taken.reshape(blocks, groups, BLOCK)[...] = _filled(field).transpose(0, 2, 1)
        at += field.itemsize * groups * BLOCK
    taken = records[:, heads:].view(np.uint32).reshape(blocks, groups * per_group, BLOCK)
    taken[...] = _filled(words.reshape(rows, groups * per_group)).transpose(0, 2, 1)
    matrix = Matrix(
        data=memory.ctypes.data,
        rows=rows,
        columns=groups * group,
        kind=PACKED,
        bits=bits,
        group=group,
        head=kind,
        record=record,
    )
    return matrix, memory


def _heads(scales: np.ndarray, biases: np.ndarray, bits: int) -> tuple[int, list[np.ndarray]]:
    """How groups are scaled, and by what `(rows, groups)`."""
    with np.errstate(over="ignore"):
        halves = [part.astype(np.float16) for part in (scales, biases)]
    if all(
        np.array_equal(half.astype(np.float32), part)
        for half, part in zip(halves, (scales, biases), strict=True)
    ):
        return HALF_BIAS, halves
    with np.errstate(divide="ignore", invalid="ignore"):
        zero_points = np.where(biases == 0, np.float32(0), -biases / scales)
        whole = np.rint(zero_points)
        # Both were rounded to float32 once, so a whole ratio is off by a few units at most.
        error = np.abs(zero_points - whole) / np.maximum(1, np.abs(whole))
    if np.all(error < 1e-6) and whole.min() >= 0 and whole.max() < 2**bits:
        return ZERO_POINT, [scales.astype(np.float32), whole.astype(np.uint8)]
    return FLOAT_BIAS, [part.astype(np.float32) for part in (scales, biases)]


def _repacked(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Words uint32 of numbers `(rows, columns)` uint8, of 4 or 8 bits."""
    if bits == 8:
        return np.ascontiguousarray(numbers).view(np.uint32)
    return np.ascontiguousarray(numbers[:, ::2] | numbers[:, 1::2] << 4).view(np.uint32)
