"""Entries of arrays by their numbers, without the kernels that MLX compiles for them on CUDA."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from . import kernels


class Lookup:
    """Rows of tables by numbers that are computed: the kernel `lookup`, or MLX's own way.

    Args:
        kernels_on: those of `kernels.NAMES` that run; `lookup` goes with `embed`.
    """

    def __init__(self, kernels_on: frozenset[str] = frozenset()) -> None:
        self._fused = kernels.EMBED in kernels_on

    def __call__(self, table: nn.Module | mx.array, rows: mx.array) -> mx.array:
        """Rows `(*rows.shape, width)` of an embedding or of an array `(R, width)`."""
        found = kernels.lookup(table, rows) if self._fused else None
        if found is None:
            found = table(rows) if isinstance(table, nn.Module) else table[rows]
        return found


def entry(array: mx.array, n: int) -> mx.array:
    """`array[n]` as a part of the array: for the index itself MLX runs a kernel that copies it."""
    return array[n : n + 1].squeeze(0)
