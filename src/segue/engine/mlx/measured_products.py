"""Products by themselves, as a step runs them: to measure what a width costs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ...checkpoints.config import QuantizationParams
from .turns import turn


def products(
    weights: Sequence[tuple[mx.array, mx.array, mx.array]], params: QuantizationParams
) -> Callable[[], object]:
    """Return what runs products of one row with some weights of one shape.

    Args:
        weights: words, scales and biases of each, as `mx.quantize` has them.
        params: how they are quantized.

    Returns:
        Runs all of them once, and waits for them.
    """
    columns = weights[0][1].shape[1] * params.group_size
    x = mx.random.normal((1, columns), key=mx.random.key(0)).astype(weights[0][1].dtype)

    def run() -> None:
        with turn():
            mx.eval(
                [
                    mx.quantized_matmul(x, *parts, group_size=params.group_size, bits=params.bits)
                    for parts in weights
                ]
            )

    return run
