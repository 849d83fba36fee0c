"""Products by themselves, as a step runs them: to measure what a width costs on this machine."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from ..openvino.packed import Packed
from . import library
from .packing import float_matrix, packable, packed_matrix
from .structures import BLOCK, MAX_COLUMNS, Config, Layer, Matrix


class Products:
    """Matrices to multiply columns with.

    Args:
        weights: each `(rows, columns)` of one shape; packed where the library keeps it so.
        threads: how many to use.
        path: the name of the path to run; empty for the best one.
        activations: bits of what packed weights are multiplied with, 8 or 16.
    """

    def __init__(
        self, weights: Sequence[Packed], threads: int, path: str = "", activations: int = 16
    ) -> None:
        self._library = library.load()
        made = [packed_matrix(w) if packable(w) else float_matrix(w.dense()) for w in weights]
        self._matrices, self._kept = [matrix for matrix, _ in made], [memory for _, memory in made]
        first = self._matrices[0]
        # A model without layers, of which these are the heads.
        config = Config(
            dim=first.columns,
            heads=first.columns,
            ffn=1,
            logits=first.rows,
            threads=threads,
            cache_size=4,
            activations=activations,
        )
        norm = np.ones(2 * first.columns, np.float32)
        self._model = self._library.segue_new(
            config, (Layer * 1)(), norm.ctypes.data, first, path.encode()
        )
        if not self._model:
            raise library.UnavailableError("the library refuses these matrices")
        weakref.finalize(self, self._library.segue_free, self._model).atexit = False

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """Products `(N, rows)` float32 of every matrix with `x` `(N, columns)`."""
        return [self._product(matrix, x) for matrix in self._matrices]

    def _product(self, matrix: Matrix, x: np.ndarray) -> np.ndarray:
        if not 1 <= len(x) <= MAX_COLUMNS or x.shape[1] != matrix.columns:
            raise ValueError(f"1 to {MAX_COLUMNS} columns of {matrix.columns}, not {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        width = -(-int(matrix.rows) // BLOCK) * BLOCK
        out = np.empty((len(x), width), np.float32)
        pointers = (array.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for array in (x, out))
        given, taken = pointers
        if self._library.segue_product(self._model, matrix, given, len(x), taken):
            raise ValueError("the native library refuses these columns")
        return out[:, : int(matrix.rows)]


def products(weights: Sequence[Packed], threads: int | None = None) -> Callable[[], object]:
    """Make products of one row with some weights of one shape, one after the other.

    Args:
        weights: each `(rows, columns)`.
        threads: see `segue.load`.

    Returns:
        Runs all of them once.
    """
    made = Products(weights, threads or library.processors())
    columns = weights[0].scales.shape[1] * weights[0].params.group_size
    row = np.random.default_rng(0).standard_normal((1, columns)).astype(np.float32)
    return lambda: made(row)
