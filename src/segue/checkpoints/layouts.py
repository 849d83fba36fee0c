"""The names that tensors have in the world, turned into one set of names.

segue's own names are those of the Hugging Face layout, with weight norm folded:

    decoder.model.decoder.{embed_tokens.K, layers.N.*, layer_norm}, decoder.lm_heads.K
    enc_to_dec_proj
    audio_encoder.{encoder, decoder}.layers.N.*, audio_encoder.quantizer.layers.K.codebook.embed
    text_encoder.*

Nothing is read here but shapes: a renamed, split or folded tensor is computed when it is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from .config import CodecConfig, LMConfig, QuantizationConfig, T5Config
from .tensors import Tensor, Tensors

LM = "decoder.model.decoder."
CODEC = "audio_encoder."
TEXT = "text_encoder."
PROJECTION = "enc_to_dec_proj."

Shapes = dict[str, tuple[int, ...]]

# What real files hold beside the weights: buffers, training state, and tied copies.
IGNORED = re.compile(
    r"embed_positions\.weights?$|\.(embed_avg|cluster_size|inited)$"
    r"|^text_encoder\.decoder\.|^text_encoder\.lm_head"
)

# --- AudioCraft's language model ---------------------------------------------------------------

_AUDIOCRAFT_NAMES = [
    (r"^emb\.(\d+)\.weight$", rf"{LM}embed_tokens.\1.weight"),
    (r"^linears\.(\d+)\.weight$", r"decoder.lm_heads.\1.weight"),
    (r"^out_norm\.", rf"{LM}layer_norm."),
    (r"^condition_provider\.conditioners\.description\.output_proj\.", PROJECTION),
    (r"^transformer\.layers\.(\d+)\.self_attn\.", rf"{LM}layers.\1.self_attn."),
    (r"^transformer\.layers\.(\d+)\.cross_attention\.", rf"{LM}layers.\1.encoder_attn."),
    (r"^transformer\.layers\.(\d+)\.linear([12])\.", rf"{LM}layers.\1.fc\2."),
    (r"^transformer\.layers\.(\d+)\.norm1\.", rf"{LM}layers.\1.self_attn_layer_norm."),
    (r"^transformer\.layers\.(\d+)\.norm_cross\.", rf"{LM}layers.\1.encoder_attn_layer_norm."),
    (r"^transformer\.layers\.(\d+)\.norm2\.", rf"{LM}layers.\1.final_layer_norm."),
]
_CONDITIONER = re.compile(
    r"condition_provider\.conditioners\.(?!description\.output_proj\.)(\w+)\."
)


def from_audiocraft(state: Tensors) -> Tensors:
    """The language model of AudioCraft's `state_dict.bin`, under segue's names.

    Q, K and V lie stacked in `in_proj_weight` there.

    Raises:
        CheckpointError: more than a description conditions it, or its text encoder is its own.
    """
    named = Tensors()
    for name, tensor in state.items():
        if (match := _CONDITIONER.match(name)) is not None:
            what = f"the conditioner {match[1]!r}; segue runs MusicGen's text conditioning alone"
            if match[1] == "description":
                what = "a text encoder that was trained along, where segue takes T5 as it is"
            raise CheckpointError(f"{tensor.source}: the tensor {name!r} belongs to {what}")
        name = name.replace(".mha.", ".")  # attention that is torch's own, on the same weights
        ours = name
        for pattern, replacement in _AUDIOCRAFT_NAMES:
            ours, hits = re.subn(pattern, replacement, name)
            if hits:
                break
        # What does not divide is left for `check` to complain of.
        if ours.endswith(".in_proj_weight") and tensor.shape and tensor.shape[0] % 3 == 0:
            base = ours.removesuffix("in_proj_weight")
            rows = tensor.shape[0] // 3
            for i, letter in enumerate("qkv"):
                named[f"{base}{letter}_proj.weight"] = tensor.rows(i * rows, (i + 1) * rows)
        else:
            named[ours] = tensor
    return named


def identity_projection(dim: int, source: Path) -> Tensors:
    """A projection of the text encoder's output that changes nothing."""
    return Tensors(
        {
            f"{PROJECTION}weight": Tensor(
                (dim, dim), lambda: np.eye(dim, dtype=np.float32), source
            ),
            f"{PROJECTION}bias": Tensor((dim,), lambda: np.zeros(dim, np.float32), source),
        }
    )


# --- segue's own -------------------------------------------------------------------------------


def stacks(lm: LMConfig) -> dict[str, list[str]]:
    """What runs as one product or table, by the name that segue's own layout has for it.

    Its modules lie there one below the other, as an engine wants them.
    """
    found = {
        f"{LM}embed_tokens": [f"{LM}embed_tokens.{k}" for k in range(lm.num_codebooks)],
        "decoder.lm_heads": [f"decoder.lm_heads.{k}" for k in range(lm.num_codebooks)],
    }
    for n in range(lm.num_layers):
        attention = f"{LM}layers.{n}.self_attn."
        found[f"{attention}qkv_proj"] = [f"{attention}{x}_proj" for x in "qkv"]
    return found


def from_stacks(state: Tensors, lm: LMConfig) -> Tensors:
    """The tensors of `state`, with the modules of `stacks` each by itself."""
    apart = Tensors(state)
    for stack, modules in stacks(lm).items():
        for kind in ("weight", "scales", "biases"):
            tensor = state.get(f"{stack}.{kind}")
            # What does not divide is left for `check` to complain of.
            if tensor is not None and tensor.shape and tensor.shape[0] % len(modules) == 0:
                del apart[f"{stack}.{kind}"]
                rows = tensor.shape[0] // len(modules)
                for n, module in enumerate(modules):
                    apart[f"{module}.{kind}"] = tensor.rows(n * rows, (n + 1) * rows)
    return apart


# --- EnCodec -----------------------------------------------------------------------------------

_CODEC_NAMES = [
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),  # AudioCraft's
    (r"\.convtr\.convtr\.|\.conv\.conv\.|\.convtr\.", ".conv."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
]
_WEIGHT_NORM = [
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
]


def from_codec(state: Tensors) -> Tensors:
    """EnCodec's tensors under segue's names: Hugging Face's, AudioCraft's or MLX's layout.

    MLX files (as `mlx-community/encodec-32khz-float32`) have channels last, one bias per LSTM and
    no weight norm.
    """
    renamed = Tensors()
    for name, tensor in state.items():
        for pattern, replacement in _CODEC_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    if any(name.endswith(".Wx") for name in renamed):
        return Tensors(_from_mlx_codec(renamed))
    return Tensors(_fold_weight_norm(renamed))


def _fold_weight_norm(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    """`g * v / |v|`, the norm over all axes but the first (`torch.nn.utils.weight_norm`)."""
    folded: set[str] = set()
    for name, tensor in state.items():
        for g_suffix, v_suffix in _WEIGHT_NORM:
            if (
                name.endswith(v_suffix)
                and (base := name.removesuffix(v_suffix)) + g_suffix in state
            ):
                g = state[base + g_suffix]
                if not tensor.shape or math.prod(g.shape) != tensor.shape[0]:
                    raise CheckpointError(
                        f"{tensor.source}: the tensor {base + g_suffix!r} has the shape {g.shape}, "
                        f"which is no norm for each of {tensor.shape[:1]} rows"
                    )
                folded |= {name, base + g_suffix}
                yield base + ".weight", tensor.map(tensor.shape, partial(_normed, g=g))
    yield from ((name, tensor) for name, tensor in state.items() if name not in folded)


def _normed(v: np.ndarray, g: Tensor) -> np.ndarray:
    v = v.astype(np.float32)
    norm = np.sqrt(np.square(v).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
    norm = np.maximum(norm, np.finfo(np.float32).tiny)  # a row of zeros stays one
    scaled: np.ndarray = g.read().astype(np.float32).reshape(norm.shape) * v / norm
    return scaled


def _from_mlx_codec(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    # Transposed convolutions are told from plain ones by the stride's kernel: they are the
    # decoder's layers that stand alone, all but its first and last.
    alone = [
        int(m[1]) for n in state if (m := re.match(r"decoder\.layers\.(\d+)\.conv\.weight", n))
    ]
    transposed = {f"decoder.layers.{n}.conv.weight" for n in sorted(alone)[1:-1]}
    for name, tensor in state.items():
        if name.endswith("conv.weight") and len(tensor.shape) == 3:
            out, kernel, into = tensor.shape
            if name in transposed:
                yield name, tensor.map((into, out, kernel), lambda w: w.transpose(2, 0, 1))
            else:
                yield name, tensor.map((out, into, kernel), lambda w: w.transpose(0, 2, 1))
        elif match := re.fullmatch(r"(.*\.lstm)\.(\d+)\.(Wx|Wh|bias)", name):
            base, layer, part = match.groups()
            if part == "bias":
                yield f"{base}.bias_ih_l{layer}", tensor
                yield f"{base}.bias_hh_l{layer}", tensor.map(tensor.shape, np.zeros_like)
            else:
                yield f"{base}.weight_{'ih' if part == 'Wx' else 'hh'}_l{layer}", tensor
        else:
            yield name, tensor


# --- What a model needs ------------------------------------------------------------------------


def lm_shapes(lm: LMConfig, text_dim: int) -> Shapes:
    """Every tensor of the language model and the projection into it, with its shape."""
    norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    square = (lm.dim, lm.dim)
    shapes: Shapes = {
        f"{PROJECTION}weight": (lm.dim, text_dim),
        f"{PROJECTION}bias": (lm.dim,),
        f"{LM}layer_norm.weight": (lm.dim,),
        f"{LM}layer_norm.bias": (lm.dim,),
    }
    for k in range(lm.num_codebooks):
        shapes[f"{LM}embed_tokens.{k}.weight"] = (lm.cardinality + 1, lm.dim)
        shapes[f"decoder.lm_heads.{k}.weight"] = (lm.cardinality, lm.dim)
    for n in range(lm.num_layers):
        layer = f"{LM}layers.{n}."
        for attention in ("self_attn", "encoder_attn"):
            for letter in ("q", "k", "v", "out"):
                shapes[f"{layer}{attention}.{letter}_proj.weight"] = square
        for norm in norms:
            shapes[f"{layer}{norm}.weight"] = shapes[f"{layer}{norm}.bias"] = (lm.dim,)
        shapes[f"{layer}fc1.weight"] = (lm.ffn_dim, lm.dim)
        shapes[f"{layer}fc2.weight"] = (lm.dim, lm.ffn_dim)
    return shapes


def t5_shapes(t5: T5Config) -> Shapes:
    """Every tensor of the text encoder, with its shape."""
    inner = t5.num_heads * t5.head_dim
    shapes: Shapes = {
        "shared.weight": (t5.vocab_size, t5.dim),
        "encoder.final_layer_norm.weight": (t5.dim,),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
            t5.num_buckets,
            t5.num_heads,
        ),
    }
    for n in range(t5.num_layers):
        block = f"encoder.block.{n}.layer."
        for letter in "qkv":
            shapes[f"{block}0.SelfAttention.{letter}.weight"] = (inner, t5.dim)
        shapes[f"{block}0.SelfAttention.o.weight"] = (t5.dim, inner)
        shapes[f"{block}0.layer_norm.weight"] = shapes[f"{block}1.layer_norm.weight"] = (t5.dim,)
        for wi in ("wi_0", "wi_1") if t5.gated else ("wi",):
            shapes[f"{block}1.DenseReluDense.{wi}.weight"] = (t5.ffn_dim, t5.dim)
        shapes[f"{block}1.DenseReluDense.wo.weight"] = (t5.dim, t5.ffn_dim)
    return shapes


def codec_shapes(codec: CodecConfig) -> Shapes:
    """Every tensor of EnCodec, with its shape; convolutions as torch has them.

    The order of layers is that of SEANet (https://arxiv.org/abs/2009.02095) as EnCodec stacks it:
    layers without weights (ELU) take a number too.
    """
    shapes: Shapes = {}

    def conv(name: str, out: int, into: int, kernel: int, transposed: bool = False) -> None:
        shapes[f"{name}.conv.weight"] = (into, out, kernel) if transposed else (out, into, kernel)
        shapes[f"{name}.conv.bias"] = (out,)

    def residual(name: str, dim: int) -> None:
        conv(f"{name}.block.1", dim // codec.compress, dim, codec.residual_kernel_size)
        conv(f"{name}.block.3", dim, dim // codec.compress, 1)
        if codec.conv_shortcut:
            conv(f"{name}.shortcut", dim, dim, 1)

    def lstm(name: str, dim: int) -> None:
        for n in range(codec.num_lstm_layers):
            for part in ("ih", "hh"):
                shapes[f"{name}.lstm.weight_{part}_l{n}"] = (4 * dim, dim)
                shapes[f"{name}.lstm.bias_{part}_l{n}"] = (4 * dim,)

    dim = codec.num_filters
    conv("encoder.layers.0", dim, codec.audio_channels, codec.kernel_size)
    n = 1
    for ratio in reversed(codec.ratios):
        for _ in range(codec.num_residual_layers):
            residual(f"encoder.layers.{n}", dim)
            n += 1
        conv(f"encoder.layers.{n + 1}", 2 * dim, dim, 2 * ratio)
        dim, n = 2 * dim, n + 2
    lstm(f"encoder.layers.{n}", dim)
    conv(f"encoder.layers.{n + 2}", codec.hidden_size, dim, codec.last_kernel_size)

    conv("decoder.layers.0", dim, codec.hidden_size, codec.kernel_size)
    lstm("decoder.layers.1", dim)
    n = 2
    for ratio in codec.ratios:
        conv(f"decoder.layers.{n + 1}", dim // 2, dim, 2 * ratio, transposed=True)
        dim, n = dim // 2, n + 2
        for _ in range(codec.num_residual_layers):
            residual(f"decoder.layers.{n}", dim)
            n += 1
    conv(f"decoder.layers.{n + 1}", codec.audio_channels, dim, codec.last_kernel_size)

    for k in range(codec.num_codebooks):
        shapes[f"quantizer.layers.{k}.codebook.embed"] = (codec.codebook_size, codec.codebook_dim)
    return shapes


def quantized_shapes(shapes: Shapes, tensors: Tensors, quantization: QuantizationConfig) -> Shapes:
    """`shapes` as they are once the modules that have `scales` among `tensors` are quantized.

    MLX packs a row of n weights into `n * bits / 32` words, with one scale per group, and one bias
    per group in the affine mode (`mlx.core.quantize`).
    """
    packed: Shapes = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if f"{module}.scales" not in tensors or len(shape) != 2:
            packed[name] = shape
            continue
        params = quantization.of(module)
        rows, columns = shape
        packed[name] = (rows, columns * params.bits // 32)
        packed[f"{module}.scales"] = (rows, columns // params.group_size)
        if params.mode == "affine":
            packed[f"{module}.biases"] = (rows, columns // params.group_size)
    return packed


def check(tensors: Tensors, shapes: Shapes, where: str) -> None:
    """Make sure that `tensors` are just what `shapes` asks for.

    Args:
        tensors: as they were opened.
        shapes: what there has to be.
        where: the folder to name where they come from several files, or from none.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or means nothing to segue; the
            line names the file and the tensor.
    """
    files = {tensor.source for tensor in tensors.values()}
    where = str(files.pop()) if len(files) == 1 else where
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(
                f"{where}: the tensor {name!r} is missing; the file is incomplete, or belongs to "
                "another model than its configuration"
            )
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{tensors[name].source}: the tensor {name!r} has the shape {tensors[name].shape}, "
                f"the configuration asks for {shape}"
            )
    for name in tensors:
        if name not in shapes:
            raise CheckpointError(
                f"{tensors[name].source}: segue has no place for the tensor {name!r}; "
                "this is not a MusicGen that it can run"
            )
