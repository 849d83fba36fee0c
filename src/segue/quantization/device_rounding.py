"""`rounding.calibrated` by MLX, on its default device: the same steps, for a GPU.

`rounding` is the reference, and says what the steps are.  Here nothing is written in place, and
what is computed is a graph that is run block by block.  Sums have another order, so that integers
may differ where two are as good; what is lost does not.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from . import grid_search
from .rounding import BLOCK, SWEEPS, Rounded, damped, unit_factor

_MLX_DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
_TINY = 1e-20


def calibrated(
    weight: np.ndarray,
    moments: np.ndarray,
    bits: int,
    group_size: int,
    dtype: np.dtype,
    sweeps: int = SWEEPS,
) -> Rounded:
    """See `rounding.calibrated`."""
    stored = _MLX_DTYPES[dtype.name]
    diagonal, importance, damping = damped(moments)
    W = mx.array(weight)
    _, scales, biases = grid_search.search_on_device(
        W.T, bits, group_size, mx.array(importance.astype(np.float32)), stored
    )
    scales, biases = (x.T.astype(mx.float32) for x in (scales, biases))
    order = np.argsort(-diagonal, kind="stable")
    U = mx.array(unit_factor(moments, damping, order))
    codes = _ldlq(W, U, scales, biases, bits, order)
    del U
    H = mx.array(moments) + damping * mx.eye(len(moments))
    found = _swept(W, H, codes, scales, biases, bits, stored, sweeps)
    return Rounded(*(np.array(each) for each in found))


def _rounded(aim: mx.array, scale: mx.array, bias: mx.array, bits: int) -> mx.array:
    return mx.clip(mx.round((aim - bias) / scale), 0, (1 << bits) - 1)


def _ldlq(
    weight: mx.array,
    U: mx.array,
    scales: mx.array,
    biases: mx.array,
    bits: int,
    order: np.ndarray,
) -> mx.array:
    """Integers `(columns, rows)` in float32."""
    columns = len(weight)
    size = columns // len(scales)
    errors, codes = mx.zeros((0, weight.shape[1])), []
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        at = order[start:stop]
        w = weight[mx.array(at)]
        scale, bias = (x[mx.array(at // size)] for x in (scales, biases))
        aims = w + U[:start, start:stop].T @ errors if start else w
        made = []
        for k in range(stop - start):
            q = _rounded(aims[k], scale[k], bias[k], bits)
            error = w[k] - (scale[k] * q + bias[k])
            codes.append(q)
            made.append(error)
            aims = aims + U[start + k, start:stop][:, None] * error[None]
        errors = mx.concatenate([errors, mx.stack(made)])
        mx.eval(errors, codes)
    back = np.empty(columns, np.int64)
    back[order] = np.arange(columns)
    return mx.stack(codes)[mx.array(back)]


def _swept(
    weight: mx.array,
    H: mx.array,
    codes: mx.array,
    scales: mx.array,
    biases: mx.array,
    bits: int,
    dtype: mx.Dtype,
    sweeps: int,
) -> tuple[mx.array, mx.array, mx.array]:
    """Integers `(columns, rows)` uint8, scales and biases `(groups, rows)` float32."""
    groups = len(scales)
    size = len(weight) // groups
    parts = [slice(n * size, (n + 1) * size) for n in range(groups)]
    w, q = ([x[at] for at in parts] for x in (weight, codes))
    scale, bias = (list(x) for x in (scales, biases))
    errors = [w[n] - (scale[n] * q[n] + bias[n]) for n in range(groups)]
    gradient = H @ mx.concatenate(errors)
    mx.eval(q, scale, bias, errors, gradient)
    for _ in range(sweeps):
        for n, at in enumerate(parts):
            own = H[at, at]
            q[n], error, inner = _descended(
                w[n], errors[n], gradient[at], own, scale[n], bias[n], bits
            )
            new = _refitted(q[n], inner, own, scale[n], bias[n])
            scale[n], bias[n] = (x.astype(dtype).astype(mx.float32) for x in new)
            error = w[n] - (scale[n] * q[n] + bias[n])
            gradient = gradient + H[:, at] @ (error - errors[n])
            errors[n] = error
            mx.eval(q[n], scale[n], bias[n], error, gradient)
    return mx.concatenate(q).astype(mx.uint8), mx.stack(scale), mx.stack(bias)


def _descended(
    w: mx.array,
    errors: mx.array,
    gradient: mx.array,
    H: mx.array,
    scale: mx.array,
    bias: mx.array,
    bits: int,
) -> tuple[mx.array, mx.array, mx.array]:
    """Integers, errors and gradient after each integer was chosen anew, the others as they are."""
    codes, made = [], []
    for k in range(len(w)):
        aim = w[k] - errors[k] + gradient[k] / H[k, k]
        q = _rounded(aim, scale, bias, bits)
        new = w[k] - (scale * q + bias)
        gradient = gradient + H[:, k][:, None] * (new - errors[k])[None]
        codes.append(q)
        made.append(new)
    return mx.stack(codes), mx.stack(made), gradient


def _refitted(
    q: mx.array, gradient: mx.array, H: mx.array, scale: mx.array, bias: mx.array
) -> tuple[mx.array, mx.array]:
    """The best scale and bias `(rows,)` for the integers, all other groups as they are."""
    ones = H.sum(axis=1)
    qq, q1, n = (q * (H @ q)).sum(axis=0), ones @ q, ones.sum()
    aim_q, aim_1 = (q * gradient).sum(axis=0), gradient.sum(axis=0)
    determinant = qq * n - q1 * q1
    singular = determinant <= 1e-6 * qq * n
    safe = mx.where(singular, 1, determinant)
    more = mx.where(singular, 0, (aim_q * n - aim_1 * q1) / safe)
    shift = mx.where(singular, aim_1 / n, (aim_1 * qq - aim_q * q1) / safe)
    new = scale + more
    usable = mx.abs(new) > _TINY
    return mx.where(usable, new, scale), mx.where(usable, bias + shift, bias)
