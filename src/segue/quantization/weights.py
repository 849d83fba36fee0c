"""A language model's weights as a forward by layers reads them, and the names of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import mlx.core as mx
import numpy as np

from ..checkpoints.config import QuantizationConfig
from ..checkpoints.tensors import Tensors

Weight = Callable[[str], np.ndarray]
"""Returns a tensor of the language model in float32, by its name; a quantized one dequantized."""

HEADS = "decoder.lm_heads"

_SAMPLED = 4096


def site_of(module: str) -> str:
    """Return the name of the input of a module: that of its first sibling with the same one."""
    parent, _, name = module.rpartition(".")
    if parent == HEADS:
        return HEADS
    if parent.endswith("self_attn") and name in ("q_proj", "k_proj", "v_proj"):
        return f"{parent}.q_proj"
    if parent.endswith("encoder_attn") and name in ("k_proj", "v_proj"):
        return f"{parent}.k_proj"
    return module


def weights_of(
    tensors: Tensors,
    quantization: QuantizationConfig | None = None,
    replaced: Mapping[str, np.ndarray] | None = None,
    dtype: mx.Dtype | None = None,
) -> Weight:
    """Return what reads a checkpoint's weights, which stay in it.

    Args:
        tensors: the checkpoint's `lm`.
        quantization: what of it is quantized.
        replaced: tensors, by name, that stand in the place of the checkpoint's.
        dtype: what floats are rounded to before they are widened; None leaves them as stored.
    """
    replaced = {} if replaced is None else replaced

    def read(name: str) -> np.ndarray:
        if name in replaced:
            return replaced[name]
        module = name.removesuffix(".weight")
        scales = tensors.get(f"{module}.scales")
        if scales is not None and name.endswith(".weight") and quantization is not None:
            biases, params = tensors.get(f"{module}.biases"), quantization.of(module)
            return dense(
                mx.array(tensors[name].read()),
                mx.array(scales.read()),
                None if biases is None else mx.array(biases.read()),
                params.group_size,
                params.bits,
                params.mode,
            )
        values = tensors[name].read()
        if dtype is not None:
            values = np.array(mx.array(values).astype(dtype).astype(mx.float32))
        return np.ascontiguousarray(values, np.float32)

    return read


def dense(
    weight: mx.array,
    scales: mx.array,
    biases: mx.array | None,
    group_size: int,
    bits: int,
    mode: str = "affine",
) -> np.ndarray:
    """Return the float32 values of packed rows, as engines that compute in float32 have them."""
    if mode == "affine":
        scales = scales.astype(mx.float32)
        biases = None if biases is None else biases.astype(mx.float32)
    values = mx.dequantize(weight, scales, biases, group_size, bits, mode)
    return np.array(values.astype(mx.float32))


def samples_of(lm: Tensors) -> Iterator[bytes | memoryview]:
    """What tells a language model's tensors from others': shapes, types, and parts of each."""
    for name, tensor in sorted(lm.items()):
        values = tensor.read().reshape(-1)
        yield f"{name} {tensor.shape} {values.dtype}".encode()
        middle = values.size // 2
        for start in (0, middle, max(0, values.size - _SAMPLED)):
            part = np.ascontiguousarray(values[start : start + _SAMPLED])
            yield part.view(np.uint8).data
