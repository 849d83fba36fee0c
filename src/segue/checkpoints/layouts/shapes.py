"""Every tensor that a model needs, with its shape; and whether a checkpoint has just those."""

from __future__ import annotations

from ...errors import CheckpointError
from ..config import CodecConfig, LMConfig, QuantizationConfig, T5Config
from ..tensors import Tensors
from .names import LM, MELODY_PROJECTION, PROJECTION

Shapes = dict[str, tuple[int, ...]]


def lm_shapes(lm: LMConfig, text_dim: int) -> Shapes:
    """List the tensors of the language model and the projection into it.

    Args:
        lm: its shape.
        text_dim: width of the text encoder's output.

    Returns:
        Shapes by name; the same for the functions below.
    """
    attentions = ("self_attn",) if lm.melody is not None else ("self_attn", "encoder_attn")
    norms = (*(f"{attention}_layer_norm" for attention in attentions), "final_layer_norm")
    square = (lm.dim, lm.dim)
    shapes: Shapes = {
        f"{PROJECTION}weight": (lm.dim, text_dim),
        f"{PROJECTION}bias": (lm.dim,),
        f"{LM}layer_norm.weight": (lm.dim,),
        f"{LM}layer_norm.bias": (lm.dim,),
    }
    if lm.melody is not None:
        shapes[f"{MELODY_PROJECTION}weight"] = (lm.dim, lm.melody.bins)
        shapes[f"{MELODY_PROJECTION}bias"] = (lm.dim,)
    for k in range(lm.num_codebooks):
        shapes[f"{LM}embed_tokens.{k}.weight"] = (lm.cardinality + 1, lm.dim)
        shapes[f"decoder.lm_heads.{k}.weight"] = (lm.cardinality, lm.dim)
    for n in range(lm.num_layers):
        layer = f"{LM}layers.{n}."
        for attention in attentions:
            for letter in ("q", "k", "v", "out"):
                shapes[f"{layer}{attention}.{letter}_proj.weight"] = square
        for norm in norms:
            shapes[f"{layer}{norm}.weight"] = shapes[f"{layer}{norm}.bias"] = (lm.dim,)
        shapes[f"{layer}fc1.weight"] = (lm.ffn_dim, lm.dim)
        shapes[f"{layer}fc2.weight"] = (lm.dim, lm.ffn_dim)
    return shapes


def t5_shapes(t5: T5Config) -> Shapes:
    """List the tensors of the text encoder."""
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
    """List the tensors of EnCodec, convolutions in torch's arrangement.

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
    """Replace the shapes of modules that have `scales` among `tensors` by the quantized ones.

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
    """Check that `tensors` are exactly those of `shapes`.

    Args:
        tensors: as they were opened.
        shapes: the required ones.
        where: the folder to name where they come from several files, or from none.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or is unknown; the line names the
            file and the tensor.
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
