"""Activation functions.

`mlx.nn` fuses theirs (`mx.compile`), for which CUDA's compiler instantiates some forty variants,
seconds long, when one is first used.  On CUDA they are computed operation by operation: a few
launches more for each layer of prefill, none where a kernel takes their place.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn

from .device import on_cuda


def gelu(x: mx.array) -> mx.array:
    """GELU, exact: x · Φ(x)."""
    if on_cuda():
        return x * (1 + mx.erf(x / math.sqrt(2))) / 2
    y: mx.array = nn.gelu(x)
    return y


def gelu_approx(x: mx.array) -> mx.array:
    """GELU, approximated with tanh, as T5 1.1 has it."""
    if on_cuda():
        return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    y: mx.array = nn.gelu_approx(x)
    return y


def elu(x: mx.array) -> mx.array:
    """ELU: x where it is positive, eˣ - 1 elsewhere."""
    if on_cuda():
        return mx.where(x > 0, x, mx.exp(x) - 1)
    y: mx.array = nn.elu(x)
    return y


class ELU(nn.ELU):
    """`elu` as a layer."""

    def __call__(self, x: mx.array) -> mx.array:
        return elu(x)
