"""The methods that need the weights alone, by their names in `checkpoints.recipe.METHODS`.

All of them end in MLX's affine groups, `w = scale · q + bias`: what differs is which integers and
which scales are chosen, not how they are stored or computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from ..checkpoints.config import QuantizationParams
from ..errors import RequestError
from . import grid_search, rounding

Parts = dict[str, mx.array]
"""The tensors of a quantized module: `weight`, `scales` and, in the affine mode, `biases`."""

Method = Callable[[str, mx.array, QuantizationParams], Parts]
"""How a module's weight `(rows, columns)` of finite floats becomes packed parts.

The module's name is for methods that know more of it than its weight.
`weight` is `(rows, columns * bits / 32)` uint32; `scales` and `biases` are `(rows, columns / group
size)`, in the weight's type or, where the mode says so, uint8.  Rows are quantized independently:
engines stack them.
"""

DTYPE_NAMES = {mx.float16: "float16", mx.bfloat16: "bfloat16", mx.float32: "float32"}

KINDS = ("weight", "scales", "biases")
"""The tensors of a quantized module; in the affine mode alone there are biases."""


@dataclass(frozen=True)
class Calibrated:
    """A method that has looked at its music.

    Attributes:
        method: how a module's weight is quantized: for `quantized` and `save_quantized`.
        details: what their `quantization` block says of it.
        notes: lines for the user on what it looked at.
        trained: tensors of the language model, by name, in the place of the checkpoint's.
    """

    method: Method
    details: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    trained: Mapping[str, mx.array] = field(default_factory=dict)


def nearest(module: str, weight: mx.array, params: QuantizationParams) -> Parts:
    """Round each weight to the nearest value of its group: MLX's own way, and mlx-lm's."""
    parts = mx.quantize(weight, params.group_size, params.bits, params.mode)
    return dict(zip(KINDS, parts, strict=False))


def search(module: str, weight: mx.array, params: QuantizationParams) -> Parts:
    """Choose for each group the grid with the least squared error: see `grid_search`.

    On a GPU of MLX's it runs there, and on the cores where there is none.
    """
    if mx.default_device().type == mx.DeviceType.gpu:
        codes, scales, biases = grid_search.search_on_device(weight, params.bits, params.group_size)
        return {"weight": packed(codes, params.bits), "scales": scales, "biases": biases}
    dtype = rounding.DTYPES[DTYPE_NAMES[weight.dtype]]
    values = np.array(weight.astype(mx.float32) if weight.dtype == mx.bfloat16 else weight)
    found = grid_search.search(values, params.bits, params.group_size, dtype)
    return {
        "weight": mx.array(packed_words(found.codes, params.bits)),
        "scales": mx.array(found.scales).astype(weight.dtype),
        "biases": mx.array(found.biases).astype(weight.dtype),
    }


def parts_of(found: rounding.Rounded, bits: int, dtype: mx.Dtype) -> Parts:
    """Return a rounded matrix as MLX holds it, scales and biases in `dtype`."""
    scales, biases = (
        mx.array(np.ascontiguousarray(x.T)).astype(dtype) for x in (found.scales, found.biases)
    )
    words = packed_words(np.ascontiguousarray(found.codes.T), bits)
    return {"weight": mx.array(words), "scales": scales, "biases": biases}


def packed_words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack uint8 integers `(rows, columns)` to uint32 as `packed` does, by numpy."""
    if 8 % bits:
        stream = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
        packed_bytes = np.packbits(stream.reshape(len(codes), -1), axis=-1, bitorder="little")
    else:
        packed_bytes = codes[:, :: 8 // bits].copy()
        for n in range(1, 8 // bits):
            packed_bytes |= codes[:, n :: 8 // bits] << (bits * n)
    return packed_bytes.view("<u4")


def packed(codes: mx.array, bits: int) -> mx.array:
    """Pack integers `(rows, columns)` as MLX does: one after the other, the lowest bits first."""
    rows, columns = codes.shape
    if 32 % bits == 0:
        words = codes.reshape(rows, -1, 32 // bits)
        return (words << mx.arange(0, 32, bits, dtype=mx.uint32)).sum(axis=-1).astype(mx.uint32)
    places = mx.arange(bits, dtype=mx.uint32)
    stream = ((codes[..., None] >> places) & 1).reshape(rows, columns * bits // 32, 32)
    return (stream << mx.arange(32, dtype=mx.uint32)).sum(axis=-1).astype(mx.uint32)


def weight_method(name: str) -> Method:
    """Return the method of a recipe.

    Raises:
        RequestError: it looks at music, not at weights alone.
    """
    if name not in METHODS:
        raise RequestError(f"the method {name} cannot be used here")
    return METHODS[name]


METHODS: Mapping[str, Method] = {"nearest": nearest, "search": search}
"""What a recipe's `method` names, of those that need no music."""

VERSIONS: Mapping[str, int] = {
    "nearest": 1,
    "search": 3,
    "gptq": 2,
    "nearest+distill": 1,
    "search+distill": 2,
    "gptq+distill": 2,
}
"""Counted up when a method gives other integers, scales or norms for the same weights."""
