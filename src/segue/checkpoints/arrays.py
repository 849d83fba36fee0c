"""Tensors of a checkpoint as MLX arrays: reading them, their types, whether they are finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np

from ..errors import ModelOverflowError
from .load_report import LoadReport
from .tensors import Tensor

DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
"""The types that a language model's weights can be cast to, by name."""


@dataclass(frozen=True)
class ComputedTensor(Tensor):
    """A tensor that MLX computes when it is read.

    Attributes:
        compute: returns the values, evaluated.
    """

    compute: Callable[[], mx.array] = field(kw_only=True)


def computed(
    shape: tuple[int, ...], compute: Callable[[], mx.array], source: Path
) -> ComputedTensor:
    """A tensor of `shape` that is the result of `compute`, made from a tensor in `source`."""
    return ComputedTensor(shape, lambda: to_numpy(compute()), source, compute=compute)


def read_array(tensor: Tensor, report: LoadReport) -> mx.array:
    """The values of a tensor; what MLX computed does not go through numpy."""
    if isinstance(tensor, ComputedTensor):
        return tensor.compute()
    with report.timed("read"):
        return mx.array(tensor.read())


def read_stacked(tensors: list[Tensor], report: LoadReport) -> mx.array:
    """Tensors one below the other, evaluated; each is read and taken from the list."""
    parts = []
    while tensors:
        parts.append(read_array(tensors.pop(0), report))
    with report.timed("read"):
        whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        mx.eval(whole)
    return whole


def to_numpy(values: mx.array) -> np.ndarray:
    """The values as a numpy array, which has no bfloat16 of its own."""
    if values.dtype == mx.bfloat16:
        return np.array(values.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(values)


def in_type(values: mx.array, dtype: mx.Dtype | None) -> mx.array:
    """Floats converted to `dtype`, unless that is None; integers as they are."""
    if dtype is None or values.dtype == dtype or not mx.issubdtype(values.dtype, mx.floating):
        return values
    return values.astype(dtype)


def check_weights(weights: Iterable[mx.array], name: str, fixed: bool = False) -> None:
    """Refuse weights that are NaN or infinite; integers never are.

    Args:
        weights: they are evaluated.
        name: of the module or the part of the model.
        fixed: see `ModelOverflowError`.

    Raises:
        ModelOverflowError: one is NaN or infinite.
    """
    finite = [mx.isfinite(w).all() for w in weights if mx.issubdtype(w.dtype, mx.floating)]
    if finite and not mx.stack(finite).all().item():
        raise ModelOverflowError(f"weights of {name}", fixed)
