"""The methods that need the weights alone, by their names in `checkpoints.recipe.METHODS`.

All of them end in MLX's affine groups, `w = scale · q + bias`: what differs is which integers and
which scales are chosen, not how they are stored or computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.core as mx

from ..checkpoints.config import QuantizationParams
from ..errors import RequestError

Parts = dict[str, mx.array]
"""The tensors of a quantized module: `weight`, `scales` and, in the affine mode, `biases`."""

Method = Callable[[mx.array, QuantizationParams], Parts]
"""How a weight `(rows, columns)` of finite floats becomes packed parts.

`weight` is `(rows, columns * bits / 32)` uint32; `scales` and `biases` are `(rows, columns / group
size)`, in the weight's type or, where the mode says so, uint8.  Rows are quantized independently:
engines stack them.
"""

KINDS = ("weight", "scales", "biases")
"""The tensors of a quantized module; in the affine mode alone there are biases."""

SHARES = (1.0, 0.92, 0.84, 0.75, 0.65)
"""Shares of a group's range that its grid may span; what lies outside is clipped.  Twice as many
leave the error of 4 bits 0.8 % lower, at twice the time."""

CLIPPED_BITS = 5
"""Up to so many bits clipping pays: with more, the whole range is always the best share."""

REFITS = 2
"""Times that the chosen grid is fitted to its integers, and these rounded to it once more."""


def nearest(weight: mx.array, params: QuantizationParams) -> Parts:
    """Round each weight to the nearest value of its group: MLX's own way, and mlx-lm's."""
    parts = mx.quantize(weight, params.group_size, params.bits, params.mode)
    return dict(zip(KINDS, parts, strict=False))


def search(weight: mx.array, params: QuantizationParams) -> Parts:
    """Choose for each group the grid with the least squared error, among narrower ones too.

    For every one of `SHARES` the integers are those of a grid over that share of the range, and
    scale and bias then those that fit the weights best, by least squares.
    """
    size, most = params.group_size, (1 << params.bits) - 1
    rows, columns = weight.shape
    groups = weight.astype(mx.float32).reshape(rows, columns // size, size)
    low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)

    def rounded(share: mx.array | float) -> mx.array:
        """The integers of a grid over a share of the range."""
        half = share * (high - low) / 2
        step = mx.maximum(2 * half / most, _TINY)
        return mx.clip(mx.round((groups - (low + high) / 2 + half) / step), 0, most)

    def grid_of(codes: mx.array) -> tuple[mx.array, mx.array]:
        """Scale and bias as they will be stored."""
        scale, bias = (part.astype(weight.dtype) for part in _fitted(groups, codes))
        return scale.astype(mx.float32), bias.astype(mx.float32)

    share = mx.ones_like(low)
    if params.bits <= CLIPPED_BITS:
        least = mx.full(low.shape, mx.inf)
        for tried in SHARES:
            codes = rounded(tried)
            scale, bias = grid_of(codes)
            error = mx.square(scale * codes + bias - groups).sum(axis=-1, keepdims=True)
            share = mx.where(error < least, tried, share)
            least = mx.minimum(error, least)
            mx.eval(share, least)
    codes = rounded(share)
    for _ in range(REFITS):
        scale, bias = grid_of(codes)
        codes = mx.clip(mx.round((groups - bias) / mx.where(scale == 0, 1, scale)), 0, most)
    return {
        "weight": packed(codes.reshape(rows, columns).astype(mx.uint32), params.bits),
        "scales": scale[..., 0].astype(weight.dtype),
        "biases": bias[..., 0].astype(weight.dtype),
    }


_TINY = 1e-12


def _fitted(groups: mx.array, codes: mx.array) -> tuple[mx.array, mx.array]:
    """The scale and bias `(rows, groups, 1)` with the least squared error for given integers."""
    mean_q, mean_w = codes.mean(axis=-1, keepdims=True), groups.mean(axis=-1, keepdims=True)
    spread = mx.square(codes - mean_q).sum(axis=-1, keepdims=True)
    together = ((codes - mean_q) * (groups - mean_w)).sum(axis=-1, keepdims=True)
    scale = together / mx.maximum(spread, _TINY)
    return scale, mean_w - scale * mean_q


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

VERSIONS: Mapping[str, int] = {"nearest": 1, "search": 1}
"""Counted up when a method gives other integers for the same weights."""
