"""Tensors of a checkpoint into the modules of this engine.

One tensor at a time is read, converted and let go, so that a checkpoint is never in memory twice.
Quantized tensors go the same way: their rows are quantized independently, so what is stacked after
quantizing is what would have been quantized after stacking.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn

from ...config import (
    CodecConfig,
    LMConfig,
    ModelConfig,
    QuantizationConfig,
    QuantizationParams,
    T5Config,
)
from ...errors import CheckpointError, RequestError
from ...layouts import LM as LM_PREFIX
from ...layouts import PROJECTION
from ...recipe import Recipe
from ...tensors import Tensors
from .codec import Codec
from .lm import LM
from .t5 import T5Encoder


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


@dataclass
class LoadReport:
    """What loading a language model did.

    Attributes:
        quantized: modules of the checkpoint that are quantized in memory, by name.
        left: modules in a recipe's scope that it could not quantize.
        seconds: spent reading, casting and quantizing.
    """

    quantized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the time of a block towards `what`."""
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start


def load_lm(
    config: ModelConfig,
    tensors: Tensors,
    compute: mx.Dtype,
    cast: mx.Dtype | None = None,
    recipe: Recipe | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[LM, LoadReport]:
    """The language model with the weights of `tensors`, which is empty afterwards.

    Args:
        config: its shape, and what of it is quantized on disk.
        tensors: named as `layouts.lm_shapes` says.
        compute: what the model computes in; packed integers stay as they are.
        cast: what weights are rounded to first.
        recipe: what is quantized in memory, after the cast and in its type.  The result is that of
            a checkpoint saved with it, bit by bit.
        advance: told how many modules are done.

    Raises:
        CheckpointError: modules that run as one are quantized differently.
        RequestError: a recipe for a checkpoint that is quantized on disk.
    """
    if recipe is not None and config.quantization is not None:
        raise RequestError("the checkpoint is quantized already; quantize the one it came from")
    model, report = LM(config.lm, config.text_dim), LoadReport()
    how: dict[str, QuantizationParams] = {}
    loaded: list[tuple[str, mx.array]] = []
    for n, (ours, theirs) in enumerate(lm_sources(config.lm).items()):
        parts = {
            kind: _stacked(tensors, [f"{name}.{kind}" for name in theirs], cast, report)
            for kind in ("weight", "bias", "scales", "biases")
            if f"{theirs[0]}.{kind}" in tensors
        }
        if config.quantization is not None and "scales" in parts:
            how[ours] = _common_params(theirs, config.quantization)
            report.quantized += theirs
        elif recipe is not None and recipe.covers(theirs[0]):
            if recipe.fits(parts["weight"].shape[-1]):
                with report.timed("quantize"):
                    parts |= quantized(parts["weight"], recipe.params)
                    mx.eval(parts)
                how[ours] = recipe.params
                report.quantized += theirs
            else:
                report.left += theirs
        with report.timed("cast"):
            parts = {kind: in_type(values, compute) for kind, values in parts.items()}
            mx.eval(parts)
        loaded += [(f"{ours}.{kind}", values) for kind, values in parts.items()]
        advance(n + 1)
    if how:
        nn.quantize(
            model, class_predicate=lambda path, _: vars(how[path]) if path in how else False
        )
    model.load_weights(loaded)
    return model, report


def quantized(weight: mx.array, params: QuantizationParams) -> dict[str, mx.array]:
    """`weight`, `scales` and, in the affine mode, `biases` of a weight `(rows, columns)`."""
    parts = mx.quantize(weight, params.group_size, params.bits, params.mode)
    return dict(zip(("weight", "scales", "biases"), parts, strict=False))


def in_type(values: mx.array, dtype: mx.Dtype | None) -> mx.array:
    """Floats as `dtype`, if it says one; integers as they are."""
    floats = mx.issubdtype(values.dtype, mx.floating)
    return values.astype(dtype) if floats and dtype is not None else values


def _stacked(
    tensors: Tensors, names: list[str], cast: mx.Dtype | None, report: LoadReport
) -> mx.array:
    """The tensors of `names`, each read and let go, one below the other."""
    parts = []
    for name in names:
        with report.timed("read"):
            values = mx.array(tensors.take(name))
        with report.timed("cast"):
            values = in_type(values, cast)
            mx.eval(values)
        parts.append(values)
    with report.timed("read"):
        whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        mx.eval(whole)
    return whole


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
    model = Codec(config)

    def take(name: str) -> mx.array:
        return mx.array(tensors.take(name)).astype(mx.float32)

    embeds = [f"quantizer.layers.{k}.codebook.embed" for k in range(config.num_codebooks)]
    loaded = [("codebooks", mx.stack([take(name) for name in embeds]))]
    # By name, so that the two biases of an LSTM come one after the other.
    biases: dict[str, mx.array] = {}
    for name in sorted(tensors):
        value = take(name)
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
    loaded = []
    for ours, theirs in _t5_names(config):
        loaded.append((ours, mx.array(tensors.take(theirs)).astype(mx.float32)))
        mx.eval(loaded[-1][1])
    model.load_weights(loaded)
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
