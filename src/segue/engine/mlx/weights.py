"""Tensors of a checkpoint into the modules of this engine.

One tensor at a time is read, converted and let go, so that a checkpoint is never in memory twice.
Quantized tensors go the same way: their rows are quantized independently, so what is stacked after
quantizing is what would have been quantized after stacking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...config import CodecConfig, LMConfig, QuantizationConfig, QuantizationParams, T5Config
from ...errors import CheckpointError
from ...layouts import LM as LM_PREFIX
from ...layouts import PROJECTION
from ...tensors import Tensors
from .codec import Codec
from .lm import LM
from .t5 import T5Encoder

Named = Iterator[tuple[str, mx.array]]
Convert = Callable[[np.ndarray], mx.array]


def to_float(dtype: mx.Dtype, rounded_to: mx.Dtype | None = None) -> Convert:
    """A conversion to `dtype`, by way of `rounded_to`; packed integers stay as they are."""

    def convert(array: np.ndarray) -> mx.array:
        values = mx.array(array)
        if mx.issubdtype(values.dtype, mx.floating):
            if rounded_to is not None:
                values = values.astype(rounded_to)
            values = values.astype(dtype)
        mx.eval(values)
        return values

    return convert


def lm_sources(config: LMConfig) -> dict[str, list[str]]:
    """For each module of `LM` that has a weight, the modules of the checkpoint stacked in it."""
    K = range(config.num_codebooks)
    sources = {
        "embed_tokens": [f"{LM_PREFIX}embed_tokens.{k}" for k in K],
        "lm_heads": [f"decoder.lm_heads.{k}" for k in K],
        "layer_norm": [f"{LM_PREFIX}layer_norm"],
        "enc_to_dec_proj": [PROJECTION.removesuffix(".")],
    }
    for n in range(config.num_layers):
        ours, theirs = f"layers.{n}.", f"{LM_PREFIX}layers.{n}."
        sources[f"{ours}self_attn.qkv_proj"] = [f"{theirs}self_attn.{x}_proj" for x in "qkv"]
        sources[f"{ours}self_attn.out_proj"] = [f"{theirs}self_attn.out_proj"]
        for same in (
            *(f"encoder_attn.{x}_proj" for x in ("q", "k", "v", "out")),
            *("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
            *("fc1", "fc2"),
        ):
            sources[ours + same] = [theirs + same]
    return sources


def load_lm(
    config: LMConfig,
    text_dim: int,
    tensors: Tensors,
    convert: Convert,
    quantization: QuantizationConfig | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> LM:
    """The language model with the weights of `tensors`, which is empty afterwards."""
    model = LM(config, text_dim)
    sources = lm_sources(config)
    if quantization is not None:
        quantized = {
            ours: _common_params(theirs, quantization)
            for ours, theirs in sources.items()
            if f"{theirs[0]}.scales" in tensors
        }
        nn.quantize(
            model,
            class_predicate=lambda path, _: vars(quantized[path]) if path in quantized else False,
        )
    loaded = []
    for ours, theirs in sources.items():
        for kind in ("weight", "bias", "scales", "biases"):
            names = [f"{source}.{kind}" for source in theirs]
            if names[0] in tensors:
                parts = [convert(tensors.take(name)) for name in names]
                whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
                mx.eval(whole)
                loaded.append((f"{ours}.{kind}", whole))
                del parts
        advance(len(loaded))
    model.load_weights(loaded)
    return model


def _common_params(modules: list[str], quantization: QuantizationConfig) -> QuantizationParams:
    params = quantization.of(modules[0])
    for module in modules:
        if quantization.of(module) != params:
            raise CheckpointError(
                f"{modules[0]} and {module} are quantized differently; segue runs them as one"
            )
    return params


def load_codec(config: CodecConfig, tensors: Tensors) -> Codec:
    """The codec with the weights of `tensors`, in float32."""
    convert = to_float(mx.float32)
    model = Codec(config)
    embeds = [f"quantizer.layers.{k}.codebook.embed" for k in range(config.num_codebooks)]
    loaded = [("codebooks", mx.stack([convert(tensors.take(name)) for name in embeds]))]
    # By name, so that the two biases of an LSTM come one after the other.
    biases: dict[str, mx.array] = {}
    for name in sorted(tensors):
        value = convert(tensors.take(name))
        base, _, part = name.rpartition(".")
        if base.endswith(".lstm"):
            kind, which, layer = part.split("_")
            path = f"{base}.{layer.removeprefix('l')}."
            if kind == "weight":
                loaded.append((path + ("Wx" if which == "ih" else "Wh"), value))
            else:
                biases[path + "bias"] = biases.get(path + "bias", mx.zeros(())) + value
        elif part == "weight":
            transposed = isinstance(_module_at(model, base), nn.ConvTranspose1d)
            # torch: (out, in, kernel), transposed (in, out, kernel); MLX: (out, kernel, in).
            loaded.append((name, value.transpose(1, 2, 0) if transposed else value.swapaxes(1, 2)))
        else:
            loaded.append((name, value))
    model.load_weights(loaded + list(biases.items()))
    mx.eval(model.parameters())
    return model


def _module_at(model: nn.Module, path: str) -> nn.Module:
    found = model
    for step in path.split("."):
        found = found[int(step)] if step.isdigit() else found[step]
    return found


def load_t5(config: T5Config, tensors: Tensors) -> T5Encoder:
    """The text encoder with the weights of `tensors`, in float32."""
    model = T5Encoder(config)
    convert = to_float(mx.float32)
    model.load_weights(
        [(name, convert(tensors.take(theirs))) for name, theirs in _t5_names(config)]
    )
    return model


def _t5_names(config: T5Config) -> Iterator[tuple[str, str]]:
    first = "encoder.block.0.layer.0.SelfAttention."
    yield "embedding.weight", "shared.weight"
    yield "relative_attention_bias.weight", f"{first}relative_attention_bias.weight"
    yield "final_norm.weight", "encoder.final_layer_norm.weight"
    for n in range(config.num_layers):
        ours, theirs = f"blocks.{n}.", f"encoder.block.{n}.layer."
        yield f"{ours}attention_norm.weight", f"{theirs}0.layer_norm.weight"
        yield f"{ours}feed_forward_norm.weight", f"{theirs}1.layer_norm.weight"
        for letter in "qkvo":
            yield f"{ours}attention.{letter}.weight", f"{theirs}0.SelfAttention.{letter}.weight"
        for dense in ("wi_0", "wi_1", "wo") if config.gated else ("wi", "wo"):
            yield f"{ours}feed_forward.{dense}.weight", f"{theirs}1.DenseReluDense.{dense}.weight"
