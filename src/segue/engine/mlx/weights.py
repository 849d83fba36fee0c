"""Tensors of a checkpoint into the modules of this engine.

A tensor that is stored in a safetensors file just as the model needs it, MLX reads by itself, when
it is first used.  Of the rest, one tensor at a time is read, converted and released, so that a
checkpoint is never in memory twice.  Quantized tensors too: rows are quantized independently, so
stacking quantized rows gives what quantizing stacked ones would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.arrays import check_weights, in_type, read_stacked
from ...checkpoints.config import (
    CodecConfig,
    LMConfig,
    ModelConfig,
    QuantizationConfig,
    QuantizationParams,
    T5Config,
)
from ...checkpoints.layouts import LM as LM_PREFIX
from ...checkpoints.layouts import MELODY_PROJECTION, PROJECTION, stacks
from ...checkpoints.load_report import LoadReport
from ...checkpoints.tensors import Tensor, Tensors, joined
from ...errors import CheckpointError
from .codec import Codec, TransposedWeight
from .lm import LM
from .lookups import Lookup
from .t5 import T5Encoder


def lm_sources(config: LMConfig) -> dict[str, list[str]]:
    """For each module of `LM` that has a weight, the modules of the checkpoint stacked in it."""
    stacked = stacks(config)
    sources = {
        "embed_tokens": stacked[f"{LM_PREFIX}embed_tokens"],
        "lm_heads": stacked["decoder.lm_heads"],
        "layer_norm": [f"{LM_PREFIX}layer_norm"],
        "enc_to_dec_proj": [PROJECTION.removesuffix(".")],
    }
    cross = config.melody is None
    if not cross:
        sources["audio_enc_to_dec_proj"] = [MELODY_PROJECTION.removesuffix(".")]
    for n in range(config.num_layers):
        ours, theirs = f"layers.{n}.", f"{LM_PREFIX}layers.{n}."
        sources[f"{ours}self_attn.qkv_proj"] = stacked[f"{theirs}self_attn.qkv_proj"]
        sources[f"{ours}self_attn.out_proj"] = [f"{theirs}self_attn.out_proj"]
        for same in (
            *(f"encoder_attn.{x}_proj" for x in ("q", "k", "v", "out") if cross),
            *(("encoder_attn_layer_norm",) if cross else ()),
            *("self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"),
        ):
            sources[ours + same] = [theirs + same]
    return sources


def load_lm(
    config: ModelConfig,
    tensors: Tensors,
    compute: mx.Dtype,
    report: LoadReport,
    advance: Callable[[int], None] = lambda done: None,
    shaped: Callable[[LM], None] = lambda lm: None,
) -> LM:
    """Load the language model from `tensors`, which is empty afterwards.

    Tensors that need no change are not read: MLX reads them when they are first used.

    Args:
        config: its shape, and what of it is quantized.
        tensors: named as `layouts.lm_shapes` says; see `checkpoints.quantize.quantized`.
        compute: what the model computes in; packed integers stay as they are.
        report: gets the seconds of reading and casting.
        advance: called with the number of modules that are done.
        shaped: called before anything is read, with a model of the same shapes and types whose
            weights mean nothing.

    Raises:
        CheckpointError: modules that run as one are quantized differently.
        ModelOverflowError: a weight to be quantized is NaN or infinite.
    """
    sources, params = lm_sources(config.lm), {}
    if config.quantization is not None:
        for ours, theirs in sources.items():
            if f"{theirs[0]}.scales" in tensors:
                params[ours] = _common_params(theirs, config.quantization)
    shaped(_shaped(config, params, compute))
    model = _shaped(config, params, compute)
    loaded: list[tuple[str, mx.array]] = []
    stored = _Stored(compute)
    for n, (ours, theirs) in enumerate(sources.items()):
        parts: dict[str, mx.array] = {}
        for kind in ("weight", "bias", "scales", "biases"):
            if f"{theirs[0]}.{kind}" in tensors:
                found = joined([tensors.pop(f"{name}.{kind}") for name in theirs])
                as_is = stored.array(found)
                parts[kind] = read_stacked(found, report) if as_is is None else as_is
        with report.timed("cast"):
            for kind, values in parts.items():
                parts[kind] = in_type(values, compute)
                if parts[kind] is not values:
                    mx.eval(parts[kind])
        loaded += [(f"{ours}.{kind}", values) for kind, values in parts.items()]
        advance(n + 1)
    model.load_weights(loaded)
    return model


def _shaped(config: ModelConfig, params: Mapping[str, QuantizationParams], compute: mx.Dtype) -> LM:
    """A model as it will be, without its weights: those that it has are never computed."""
    with mx.stream(_any_thread()):
        model = LM(config.lm, config.text_dim)
        model.set_dtype(compute)
        if params:
            nn.quantize(
                model,
                class_predicate=lambda path, _: vars(params[path]) if path in params else False,
            )
    return model


@cache
def _any_thread() -> mx.Stream:
    """The stream of what is not computed before it is first used, by whatever thread that is."""
    return mx.new_thread_unsafe_stream(mx.cpu)


class _Stored:
    """Arrays just as they lie in safetensors files, which are not read before they are needed.

    Args:
        compute: the type that floats must have.
    """

    def __init__(self, compute: mx.Dtype) -> None:
        self._compute = compute
        self._files: dict[Path, dict[str, mx.array]] = {}

    def array(self, parts: list[Tensor]) -> mx.array | None:
        """The tensors one below the other, or None if they do not lie so, or in another type."""
        if len(parts) > 1 or parts[0].entry is None:
            return None
        found = self._entries(parts[0].source).get(parts[0].entry)
        if found is None or in_type(found, self._compute) is not found:
            return None
        return found

    def _entries(self, path: Path) -> dict[str, mx.array]:
        if path not in self._files:
            try:
                found = mx.load(str(path), "safetensors", stream=_any_thread())
            except RuntimeError:  # a path that is not UTF-8, or types that MLX does not have
                found = {}
            assert isinstance(found, dict)  # noqa: S101 - that of several arrays is
            self._files[path] = found
        return self._files[path]


def _common_params(modules: list[str], quantization: QuantizationConfig) -> QuantizationParams:
    params = quantization.of(modules[0])
    for module in modules:
        if quantization.of(module) != params:
            raise CheckpointError(
                f"{modules[0]} and {module} are quantized differently; segue runs them as one"
            )
    return params


def load_codec(
    config: CodecConfig,
    tensors: Tensors,
    fused: frozenset[str] = frozenset(),
    lookup: Lookup | None = None,
) -> Codec:
    """The codec with the weights of `tensors`, in float32; see `Codec` for the rest."""
    model = Codec(config, fused, lookup)

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
            transposed = isinstance(_module_at(model, base), TransposedWeight)
            # torch: (out, in, kernel), transposed (in, out, kernel).
            loaded.append((name, value.transpose(2, 1, 0) if transposed else value.swapaxes(1, 2)))
        else:
            loaded.append((name, value))
    loaded += biases.items()
    # As they are read, which a kernel would have to copy otherwise.
    loaded = [(name, mx.contiguous(value)) for name, value in loaded]
    model.load_weights(loaded)
    mx.eval(model.parameters())
    # A gate that saturates would take an infinity for 1.
    check_weights([values for _, values in loaded], "the codec", fixed=True)
    return model


def _module_at(model: nn.Module, path: str) -> nn.Module:
    found = model
    for step in path.split("."):
        found = found[int(step)] if step.isdigit() else found[step]
    return found


def load_t5(config: T5Config, tensors: Tensors, lookup: Lookup | None = None) -> T5Encoder:
    """The text encoder with the weights of `tensors`, in float32; see `T5Encoder` for `lookup`."""
    model = T5Encoder(config, lookup)
    loaded = []
    for ours, theirs in _t5_names(config):
        loaded.append((ours, mx.array(tensors.take(theirs)).astype(mx.float32)))
        check_weights([loaded[-1][1]], theirs, fixed=True)
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
