"""Products with weights that may be quantized.

What MLX multiplies many rows of a quantized weight with on CUDA is compiled when it is first used:
CUTLASS templates, half a minute for each combination of rows, bits, group size and type.  To
dequantize a weight, and to multiply few rows with it, its library has kernels.  So many rows are
multiplied with the weight dequantized, which only prefill and the text have.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .device import on_cuda

MIN_ROWS = 8
"""From so many rows on MLX compiles its own product; for rows of a single group, from two on."""


def dequantized(layer: nn.QuantizedLinear) -> mx.array:
    """The weight `(out, in)` of a product, in the type of its scales or of the model."""
    weight: mx.array = mx.dequantize(
        layer.weight,
        layer.scales,
        layer.get("biases"),
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
    )
    return weight


class QuantizedLinear(nn.QuantizedLinear):
    """A product with a quantized weight, which nothing is compiled for while somebody waits."""

    def __call__(self, x: mx.array) -> mx.array:
        several_groups = self.scales.shape[-1] > 1
        if x.size // x.shape[-1] < (MIN_ROWS if several_groups else 2) or not on_cuda():
            y: mx.array = super().__call__(x)
            return y
        y = x @ dequantized(self).astype(x.dtype).T
        return y + self.bias if "bias" in self else y


class Linear(nn.Linear):
    """A product that `nn.quantize` makes a `QuantizedLinear` of."""

    def to_quantized(
        self,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ) -> nn.Module:
        """See `nn.Linear.to_quantized`; the input is never quantized."""
        options: dict[str, Any] = {"group_size": group_size, "bits": bits, "mode": mode}
        made: nn.Module = QuantizedLinear.from_linear(self, **options)
        return made
