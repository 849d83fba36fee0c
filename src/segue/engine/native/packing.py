"""Weights as the library reads them: what `struct matrix` in `c/segue_native.h` points to."""

from __future__ import annotations

import mmap

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


def zeros(count: int) -> np.ndarray:
    """`count` bytes of zeros that begin a page, which take memory when they are written.

    Large ones lie on huge pages, where the system has them.
    """
    memory = mmap.mmap(-1, max(count, 1))
    if count >= 1 << 21 and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)[:count]


def _filled(rows: np.ndarray) -> np.ndarray:
    """`(blocks, BLOCK, ...)` of rows `(N, ...)`, the last block filled up with zeros."""
    missing = -len(rows) % BLOCK
    if missing:
        rows = np.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)])
    return rows.reshape(-1, BLOCK, *rows.shape[1:])


def float_matrix(values: np.ndarray) -> tuple[Matrix, np.ndarray]:
    """A matrix `(rows, columns)` of floats in the narrowest type that holds it exactly.

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
    memory = zeros(blocks.nbytes)
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


def packed_matrix(packed: Packed) -> tuple[Matrix, np.ndarray]:
    """A matrix that is `packable`.

    What stands at the head of a group is chosen so that no scale or bias is rounded: zero points
    where all biases are multiples of their scales, float16 where all are such numbers.

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
    per_group = group * bits // 32
    record = np.dtype(
        [(f"head{n}", field.dtype, BLOCK) for n, field in enumerate(fields)]
        + [("words", np.uint32, (per_group, BLOCK))]
    )
    blocks = -(-rows // BLOCK)
    memory = zeros(blocks * groups * record.itemsize)
    records = memory.view(record).reshape(blocks, groups)
    for n, field in enumerate(fields):
        records[f"head{n}"] = _filled(field).transpose(0, 2, 1)
    by_block = _filled(words.reshape(rows, groups, per_group))
    records["words"] = by_block.transpose(0, 2, 3, 1)
    matrix = Matrix(
        data=memory.ctypes.data,
        rows=rows,
        columns=groups * group,
        kind=PACKED,
        bits=bits,
        group=group,
        head=kind,
        record=record.itemsize,
    )
    return matrix, memory


def _heads(scales: np.ndarray, biases: np.ndarray, bits: int) -> tuple[int, list[np.ndarray]]:
    """What stands at the head of each group, and its parts `(rows, groups)`."""
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
