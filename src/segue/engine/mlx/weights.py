"""Tensors of a checkpoint into the modules of this engine.

What lies in a safetensors file just as the model wants it, MLX reads by itself, while others go on.
Of the rest, one tensor at a time is read, converted and let go, so that a checkpoint is never in
memory twice.  Quantized tensors go the same ways: their rows are quantized independently, so what
is stacked after quantizing is what would have been quantized after stacking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.config import (
    CodecConfig,
    LMConfig,
    ModelConfig,
    QuantizationConfig,
    QuantizationParams,
    T5Config,
)
from ...checkpoints.layouts import LM as LM_PREFIX
from ...checkpoints.layouts import PROJECTION, stacks
from ...checkpoints.recipe import Recipe
from ...checkpoints.tensors import Tensor, Tensors, joined
from ...errors import CheckpointError, ModelOverflowError, RequestError
from ..base import LoadReport
from .codec import Codec
from .lm import LM
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
    for n in range(config.num_layers):
        ours, theirs = f"layers.{n}.", f"{LM_PREFIX}layers.{n}."
        sources[f"{ours}self_attn.qkv_proj"] = stacked[f"{theirs}self_attn.qkv_proj"]
        sources[f"{ours}self_attn.out_proj"] = [f"{theirs}self_attn.out_proj"]
        for same in (
            *(f"encoder_attn.{x}_proj" for x in ("q", "k", "v", "out")),
            *("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
            *("fc1", "fc2"),
        ):
            sources[ours + same] = [theirs + same]
    return sources


def load_lm(
    config: ModelConfig,
    tensors: Tensors,
    compute: mx.Dtype,
    cast: mx.Dtype | None = None,
    recipe: Recipe | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[LM, LoadReport]:
    """The language model with the weights of `tensors`, which is empty afterwards.

    What needs no change is mapped, so to speak: MLX reads it when it is first used.

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
    with mx.stream(_any_thread()):
        model, report = LM(config.lm, config.text_dim), LoadReport()
    how: dict[str, QuantizationParams] = {}
    loaded: list[tuple[str, mx.array]] = []
    stored = _Stored(compute)
    for n, (ours, theirs) in enumerate(lm_sources(config.lm).items()):
        parts: dict[str, mx.array] = {}
        for kind in ("weight", "bias", "scales", "biases"):
            if f"{theirs[0]}.{kind}" in tensors:
                found = joined([tensors.pop(f"{name}.{kind}") for name in theirs])
                as_is = stored.array(found) if cast is None and recipe is None else None
                parts[kind] = _stacked(found, cast, report) if as_is is None else as_is
        if config.quantization is not None and "scales" in parts:
            how[ours] = _common_params(theirs, config.quantization)
            report.quantized += theirs
        elif recipe is not None and recipe.covers(theirs[0]):
            if recipe.fits(parts["weight"].shape[-1]):
                with report.timed("quantize"):
                    parts |= quantized(parts["weight"], recipe.params, theirs[0])
                    mx.eval(parts)
                how[ours] = recipe.params
                report.quantized += theirs
            else:
                report.left += theirs
        with report.timed("cast"):
            for kind, values in parts.items():
                parts[kind] = in_type(values, compute)
                if parts[kind] is not values:
                    mx.eval(parts[kind])
        loaded += [(f"{ours}.{kind}", values) for kind, values in parts.items()]
        advance(n + 1)
    if how:
        nn.quantize(
            model, class_predicate=lambda path, _: vars(how[path]) if path in how else False
        )
    model.load_weights(loaded)
    return model, report


def quantized(weight: mx.array, params: QuantizationParams, name: str) -> dict[str, mx.array]:
    """`weight`, `scales` and, in the affine mode, `biases` of a weight `(rows, columns)`.

    Raises:
        ModelOverflowError: a weight is NaN or infinite.  Quantizing would make some number of it.
    """
    check_weights([weight], name)
    parts = mx.quantize(weight, params.group_size, params.bits, params.mode)
    return dict(zip(("weight", "scales", "biases"), parts, strict=False))


def check_weights(weights: Iterable[mx.array], name: str, fixed: bool = False) -> None:
    """Refuse weights that are no numbers; integers always are.

    Args:
        weights: they are evaluated.
        name: of the module or the part of the model.
        fixed: see `ModelOverflowError`.

    Raises:
        ModelOverflowError: one is NaN or infinite.
    """
    finite = [mx.isfinite(w).all() for w in weights if mx.issubdtype(w.dtype, mx.floating)]
    if finite and not mx.stack(finite).all().item():
        raise ModelOverflowError(f"weights of {name}", fixed)


def in_type(values: mx.array, dtype: mx.Dtype | None) -> mx.array:
    """Floats as `dtype`, if it says one; integers as they are."""
    if dtype is None or values.dtype == dtype or not mx.issubdtype(values.dtype, mx.floating):
        return values
    return values.astype(dtype)


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


def _stacked(tensors: list[Tensor], cast: mx.Dtype | None, report: LoadReport) -> mx.array:
    """Tensors one below the other, each read and let go."""
    parts = []
    while tensors:
        with report.timed("read"):
            values = mx.array(tensors.pop(0).read())
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
    loaded += biases.items()
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


def load_t5(config: T5Config, tensors: Tensors) -> T5Encoder:
    """The text encoder with the weights of `tensors`, in float32."""
    model = T5Encoder(config)
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
