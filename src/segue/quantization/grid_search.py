"""The grid of each group with the least squared error: found by trying, from the weights alone.

A grid is `scale · q + bias`.  For given integers q the best one follows by least squares, and for a
given grid the best integers are the nearest; going back and forth ends in the nearest of many local
optima.  So each step starts beside the best grid that is known, a little wider, narrower or shifted
(`MOVES`), is fitted once, and is kept where it errs less.

The steps are written twice: for numpy, whose blocks stay in a core's cache and run on all cores,
and for MLX on a GPU.  They differ in the order of sums, so integers may differ where a weight lies
in the middle of two values, or two grids err alike.  On one machine it is always the same one.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

BEGIN = 1.5
"""Values fewer than it has, which the first grid spans of a group: its ends are clipped."""

MOVES = (
    *((0.9, 0.0), (0.3, -0.25), (0.0, 0.0), (0.3, 0.25), (0.0, 0.0), (-0.3, 0.0), (0.3, 0.0)),
    *((0.0, 0.0), (0.9, -0.25), (0.9, 0.45), (0.0, 0.0), (-0.6, -0.25)),
)
"""How each step's grid differs from the best one: values wider over the whole, and values further.
Found one by one on the built-in checkpoint at 4 bits, each the one of 55 that gained the most."""

BLOCK = 1 << 16
"""Weights at a time: with what is made of them they stay in 1 MiB of cache."""

GPU_BLOCK = 1 << 24
_TINY = np.float32(1e-20)
_FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class Grids:
    """A matrix in integers, as it is stored.

    Attributes:
        codes: `(rows, columns)` uint8.
        scales, biases: `(rows, groups)` float32, exact in the type that they are stored in.
    """

    codes: np.ndarray
    scales: np.ndarray
    biases: np.ndarray


def search(
    weight: np.ndarray,
    bits: int,
    group_size: int,
    dtype: np.dtype,
    importance: np.ndarray | None = None,
) -> Grids:
    """Search by numpy, on all cores.

    Args:
        weight: `(rows, columns)` floats.
        bits: of an integer.
        group_size: weights of a row that share a grid.
        dtype: what scales and biases are stored in.
        importance: of each column, `(columns,)`, what its squared error is multiplied with.
    """
    rows, columns = weight.shape
    groups = columns // group_size
    codes = np.empty((rows, columns), np.uint8)
    scales, biases = (np.empty((rows, groups), np.float32) for _ in range(2))
    weights = None if importance is None else _relative(importance, group_size)
    step = max(1, BLOCK // columns)

    def part(start: int) -> None:
        at = slice(start, start + step)
        x = np.ascontiguousarray(weight[at], np.float32).reshape(-1, group_size)
        w = None if weights is None else np.tile(weights, (len(x) // groups, 1))
        q, scale, bias = _searched(x, w, bits, dtype)
        codes[at] = q.reshape(-1, columns)
        scales[at], biases[at] = scale.reshape(-1, groups), bias.reshape(-1, groups)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(part, range(0, rows, step)))
    return Grids(codes, scales, biases)


def _relative(importance: np.ndarray, group_size: int) -> np.ndarray:
    """Weights `(groups, group_size)` with a mean of 1 in each group."""
    weights = np.maximum(importance, 1e-8 * max(importance.max(), 1e-30)).reshape(-1, group_size)
    relative: np.ndarray = weights / weights.mean(axis=1, keepdims=True)
    return relative.astype(np.float32)


def stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float32 values as they are after they were stored in a type."""
    return values.astype(dtype).astype(np.float32) if dtype != np.float32 else values


def _searched(
    x: np.ndarray, w: np.ndarray | None, bits: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes, scales and biases of groups `(n, size)`, columns weighted by `w` `(n, size)`.

    Values are centred: then a grid is `scale · (q - mean of q)`, and fitting it leaves an error of
    `Σ x² - gain`, with a gain of `scale · Σ q x`.
    """
    size, most = np.float32(x.shape[1]), np.float32((1 << bits) - 1)
    middle = most / 2
    ones = np.ones_like(x[0]) if w is None else w
    mean = np.vecdot(x, ones) / size
    x = x - mean[:, None]
    weighted = x if w is None else x * w
    low, high = x.min(axis=1), x.max(axis=1)
    q, weighted_q = np.empty_like(x), np.empty_like(x)

    def round_to(scale: np.ndarray, offset: np.ndarray) -> None:
        """Set q to the nearest integers of `x / scale + offset`."""
        np.multiply(x, (1 / scale)[:, None], out=q)
        np.add(q, offset[:, None], out=q)
        np.rint(q, out=q)
        np.clip(q, 0, most, out=q)

    def fitted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gain, scale and offset of the best grid for q; a group of one integer keeps scale 1."""
        total = np.vecdot(q, ones)
        squares = np.vecdot(q, q if w is None else np.multiply(q, w, out=weighted_q))
        offset = total / size
        spread = squares - total * offset
        flat = spread <= _FLAT * size
        together = np.where(flat, 0, np.vecdot(q, weighted))
        scale = np.where(flat, 1, together / np.where(flat, 1, spread))
        return scale * together, np.where(scale > _TINY, scale, 1), offset

    scale = np.maximum((high - low) * np.float32(1 - BEGIN / (most + 1)) / most, _TINY)
    round_to(scale, middle - (high + low) / 2 / scale)
    gain, scale, offset = fitted()
    for wider, further in MOVES:
        factor = np.float32(1 + wider / most)
        round_to(scale * factor, (offset - middle) / factor + (middle + np.float32(further)))
        found = fitted()
        better = found[0] > gain
        gain, scale, offset = (
            np.where(better, new, old)
            for new, old in zip(found, (gain, scale, offset), strict=True)
        )
    bias = stored(mean - scale * offset, dtype)
    scale = stored(scale, dtype)
    scale = np.where(scale == 0, 1, scale).astype(np.float32)  # too small for the type
    round_to(scale, (mean - bias) / scale)
    return q.astype(np.uint8), scale, bias


def search_on_device(
    weight: mx.array,
    bits: int,
    group_size: int,
    importance: mx.array | None = None,
    dtype: mx.Dtype | None = None,
) -> tuple[mx.array, mx.array, mx.array]:
    """Search by MLX, on its default device.

    Args:
        weight: `(rows, columns)` floats.
        bits: of an integer.
        group_size: weights of a row that share a grid.
        importance: see `search`.
        dtype: what scales and biases are stored in; None is the weight's.

    Returns:
        Integers `(rows, columns)` uint32; scales and biases `(rows, groups)`.
    """
    rows, columns = weight.shape
    step, dtype = max(1, GPU_BLOCK // columns), weight.dtype if dtype is None else dtype
    w = None
    if importance is not None:
        w = mx.array(_relative(np.array(importance), group_size))
    found = []
    for start in range(0, rows, step):
        part = weight[start : start + step].reshape(-1, columns // group_size, group_size)
        found.append(_searched_on_device(part, w, bits, dtype))
        mx.eval(found[-1])
    codes, scales, biases = (mx.concatenate(list(parts)) for parts in zip(*found, strict=True))
    return codes.reshape(rows, columns), scales[..., 0], biases[..., 0]


def _searched_on_device(
    groups: mx.array, w: mx.array | None, bits: int, dtype: mx.Dtype
) -> tuple[mx.array, mx.array, mx.array]:
    """As `_searched`, of groups `(rows, groups, size)`; `w` is `(groups, size)`."""
    size, most = groups.shape[-1], (1 << bits) - 1
    middle, tiny = most / 2, float(_TINY)
    x = groups.astype(mx.float32)

    def total(values: mx.array) -> mx.array:
        return (values if w is None else values * w).sum(axis=-1, keepdims=True)

    mean = total(x) / size
    x = x - mean
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)

    def rounded(scale: mx.array, offset: mx.array) -> mx.array:
        return mx.clip(mx.round(x * (1 / scale) + offset), 0, most)

    def fitted(q: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        offset = total(q) / size
        spread = total(q * q) - size * offset * offset
        flat = spread <= _FLAT * size
        together = mx.where(flat, 0, total(q * x))
        scale = mx.where(flat, 1, together / mx.where(flat, 1, spread))
        return scale * together, mx.where(scale > tiny, scale, 1), offset

    scale = mx.maximum((high - low) * (1 - BEGIN / (most + 1)) / most, tiny)
    gain, scale, offset = fitted(rounded(scale, middle - (high + low) / 2 / scale))
    for wider, further in MOVES:
        factor = 1 + wider / most
        found = fitted(rounded(scale * factor, (offset - middle) / factor + (middle + further)))
        better = found[0] > gain
        gain, scale, offset = (
            mx.where(better, new, old)
            for new, old in zip(found, (gain, scale, offset), strict=True)
        )
        mx.eval(gain, scale, offset)
    biases, scales = (mean - scale * offset).astype(dtype), scale.astype(dtype)
    scales = mx.where(scales == 0, 1, scales).astype(dtype)  # too small for the type
    step, bias = scales.astype(mx.float32), biases.astype(mx.float32)
    return rounded(step, (mean - bias) / step).astype(mx.uint32), scales, biases
