"""The shape of a MusicGen model: what `config.json` and `xp.cfg` say, validated once.

Field names are segue's; `config_fields` and `audiocraft_fields` say what becomes of each field of
the files.  Anything that segue cannot run is refused here, so that the engines may assume what
these classes promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from . import audiocraft_fields as audiocraft
from . import config_fields as hugging_face
from .schema import Fields, IncompleteConfigError, NoEffect, read_fields

Json = Mapping[str, Any]

FRAMES_PER_WINDOW = 1500
"""Frames of the longest sequence MusicGen was trained on: 30 s at 50 frames a second."""

HIDDEN_DIMS_OF_T5 = {"t5-small": 512, "t5-base": 768, "t5-large": 1024}
"""`d_model` of the text encoders that an AudioCraft configuration may name."""


@dataclass(frozen=True)
class QuantizationParams:
    """How one module is quantized, in the words of `mlx.core.quantize`."""

    bits: int
    group_size: int
    mode: str = "affine"


@dataclass(frozen=True)
class QuantizationConfig:
    """What is quantized in a checkpoint, in the form that mlx-lm writes.

    Attributes:
        default: what holds for a quantized module that `modules` says nothing of.
        modules: the exceptions, by module name.
    """

    default: QuantizationParams
    modules: Mapping[str, QuantizationParams]

    def of(self, module: str) -> QuantizationParams:
        """How `module` is quantized, if it is."""
        return self.modules.get(module, self.default)

    @classmethod
    def from_json(cls, block: Json) -> QuantizationConfig:
        """Read the `quantization` block of a `config.json`.

        Raises:
            CheckpointError: it has no bits or group size, or none that MLX has.
        """

        def params(entry: Json, where: str) -> QuantizationParams:
            return QuantizationParams(**read_fields(entry, hugging_face.QUANTIZATION, where))

        name = "quantization"
        exceptions = {
            n: params(e, f"{name}.{n}") for n, e in block.items() if isinstance(e, Mapping)
        }
        return cls(params(block, name), exceptions)


@dataclass(frozen=True)
class LMConfig:
    """The decoder-only transformer over codes.

    Attributes:
        dim: width of the residual stream.
        num_layers, num_heads, ffn_dim: as the names say.
        num_codebooks: codebooks of the sequence; 8 for stereo (left and right interleaved).
        cardinality: entries of a codebook; the special token is this number.
        audio_channels: 1 or 2.
        delays: steps by which each codebook runs late; see `segue.pattern`.
    """

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int = 4
    cardinality: int = 2048
    audio_channels: int = 1
    delays: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.dim % 2:
            raise CheckpointError(
                f"the configuration asks for {self.num_heads} heads over {self.dim} dimensions, "
                "which does not divide"
            )
        if self.audio_channels not in (1, 2) or self.num_codebooks % self.audio_channels:
            raise CheckpointError(
                f"the configuration has {self.audio_channels} audio channels and "
                f"{self.num_codebooks} codebooks; segue runs mono, and stereo with an even number"
            )
        if not self.delays:
            channels = self.audio_channels
            object.__setattr__(
                self, "delays", tuple(k // channels for k in range(self.num_codebooks))
            )
        if len(self.delays) != self.num_codebooks or min(self.delays) != 0:
            raise CheckpointError(
                f"the configuration has the delays {list(self.delays)} for {self.num_codebooks} "
                "codebooks; there is one for each, from 0"
            )

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.dim // self.num_heads

    @property
    def special_token(self) -> int:
        """The token that starts a sequence and stands where the delay pattern has no code."""
        return self.cardinality

    @classmethod
    def from_hf(cls, config: Json) -> LMConfig:
        """Read the `decoder` part of a Hugging Face `config.json`."""
        values = read_fields(config, hugging_face.DECODER, "decoder")
        for name in ("pad_token_id", "bos_token_id"):
            token = values.pop(name)
            if token is not None and 0 <= token < values["cardinality"]:
                raise CheckpointError(
                    f"decoder.{name} is {token}, which is a code; MusicGen's special token is "
                    f"vocab_size, {values['cardinality']}"
                )
        return cls(**values)

    @classmethod
    def from_xp_cfg(cls, config: Json) -> LMConfig:
        """Read AudioCraft's training configuration (`xp.cfg` of a `state_dict.bin`)."""
        top = read_fields(config, audiocraft.XP_LM)
        name = "interleave_stereo_codebooks"
        stereo = read_fields(top[name] or {}, audiocraft.INTERLEAVE, name, closed=True)["use"]
        if not stereo and top["channels"] == 2:
            raise CheckpointError(
                f"channels is 2 without {name}.use; segue runs MusicGen's mono codec twice for "
                "stereo"
            )
        name = "codebooks_pattern"
        pattern = read_fields(top[name] or {}, audiocraft.CODEBOOKS_PATTERN, name)
        delay = read_fields(pattern["delay"] or {}, audiocraft.DELAY, f"{name}.delay", closed=True)
        values = read_fields(
            top["transformer_lm"], audiocraft.TRANSFORMER_LM, "transformer_lm", closed=True
        )
        values["ffn_dim"] = int(values.pop("hidden_scale") * values["dim"])
        per_channel = values["num_codebooks"] // (2 if stereo else 1)
        if top["compression_model_n_q"] not in (None, per_channel):
            raise CheckpointError(
                f"compression_model_n_q is {top['compression_model_n_q']}, and transformer_lm.n_q "
                f"makes {per_channel} codebooks a channel"
            )
        if delay["delays"] is None and top[name] is not None:  # AudioCraft's default
            delay["delays"] = tuple(range(values["num_codebooks"]))
        return cls(**values, audio_channels=2 if stereo else 1, delays=delay["delays"] or ())


@dataclass(frozen=True)
class CodecConfig:
    """EnCodec: waveform to codes and back.  Defaults are the 32 kHz codec of MusicGen.

    Attributes:
        sample_rate: of the codec, in Hz.
        num_filters: channels of the first convolution; they double with each ratio.
        ratios: strides of the decoder, outermost last; their product is the hop of one frame.
        num_codebooks: residual codebooks that a frame is quantized with.
        codebook_size, codebook_dim: entries, and dimensions of one entry.
        causal: whether all padding lies on the left.
        conv_shortcut: whether residual blocks have a convolution on their skip.
    """

    sample_rate: int = 32_000
    audio_channels: int = 1
    num_filters: int = 64
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    num_residual_layers: int = 1
    dilation_growth: int = 2
    compress: int = 2
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    num_lstm_layers: int = 2
    hidden_size: int = 128
    num_codebooks: int = 4
    codebook_size: int = 2048
    codebook_dim: int = 128
    causal: bool = False
    pad_mode: str = "reflect"
    trim_right_ratio: float = 1.0
    conv_shortcut: bool = False

    def __post_init__(self) -> None:
        if self.audio_channels != 1:
            raise CheckpointError(
                f"the codec has {self.audio_channels} channels; MusicGen's codec is mono, "
                "run twice for stereo"
            )
        if self.codebook_dim != self.hidden_size or self.num_codebooks < 1:
            raise CheckpointError(
                f"the codec quantizes {self.hidden_size} dimensions with {self.num_codebooks} "
                f"codebooks of {self.codebook_dim}"
            )
        if self.trim_right_ratio != 1 and not self.causal:
            raise CheckpointError(
                f"the codec has the trim_right_ratio {self.trim_right_ratio}, which only a causal "
                "one can"
            )
        if self.sample_rate % self.hop_length:
            raise CheckpointError(
                f"the codec makes a fraction of a frame per second ({self.sample_rate} Hz, "
                f"{self.hop_length} samples a frame)"
            )

    @property
    def hop_length(self) -> int:
        """Samples of one frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return self.sample_rate // self.hop_length

    @classmethod
    def from_hf(cls, config: Json) -> CodecConfig:
        """Read the `audio_encoder` part of a Hugging Face `config.json`, or a codec's own.

        The number of codebooks follows from the largest bandwidth in kbit/s, as `transformers`
        computes it (`EncodecConfig.num_quantizers`).
        """
        values = read_fields(config, hugging_face.AUDIO_ENCODER, "audio_encoder")
        values["codebook_dim"] = values["codebook_dim"] or values["hidden_size"]
        frame_rate = math.ceil(values["sample_rate"] / math.prod(values["ratios"]))
        bits = frame_rate * math.ceil(math.log2(values["codebook_size"]))
        values["num_codebooks"] = int(1000 * values.pop("target_bandwidths")[-1] // bits)
        return cls(**values)

    @classmethod
    def from_xp_cfg(cls, config: Json) -> CodecConfig:
        """Read the `xp.cfg` of an AudioCraft `compression_state_dict.bin`, as it was parsed."""
        top = read_fields(config, audiocraft.XP_CODEC)
        encodec = read_fields(top["encodec"] or {}, audiocraft.ENCODEC, "encodec", closed=True)
        values = read_fields(top["seanet"], audiocraft.SEANET, "seanet", closed=True)
        values["conv_shortcut"] = not values.pop("true_skip")
        values["codebook_dim"] = values["hidden_size"]
        for half, own in (("encoder", {}), ("decoder", audiocraft.SEANET_DECODER)):
            values |= _half(values.pop(half) or {}, own, top["seanet"], f"seanet.{half}")
        sample_rate = encodec["sample_rate"] or top["sample_rate"]
        if sample_rate is None:
            raise IncompleteConfigError("lacks 'sample_rate'")
        channels = encodec["channels"] or values["audio_channels"]
        if channels != values["audio_channels"]:
            raise CheckpointError(
                f"encodec.channels is {channels} and seanet.channels {values['audio_channels']}"
            )
        values |= read_fields(top["rvq"], audiocraft.RVQ, "rvq", closed=True)
        return cls(**values, sample_rate=sample_rate)


@dataclass(frozen=True)
class T5Config:
    """The encoder half of T5.  Defaults are those of `t5-base`.

    Attributes:
        dim: width of the residual stream, `d_model`.
        head_dim: `d_kv`; heads need not fill `dim`.
        num_buckets, max_distance: of the relative position bias.
        gated: whether the feed-forward is gated (T5 1.1, Flan) rather than one ReLU.
        max_tokens: of a text, `n_positions`: what it was trained with.  Nothing in it ends there,
            but attention takes memory by the square of a text's length.
    """

    vocab_size: int = 32_128
    dim: int = 768
    head_dim: int = 64
    num_heads: int = 12
    num_layers: int = 12
    ffn_dim: int = 3072
    num_buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    gated: bool = False
    max_tokens: int = 512

    @classmethod
    def from_hf(cls, config: Json) -> T5Config:
        """Read the `text_encoder` part of a Hugging Face `config.json`, or a T5's own."""
        values = read_fields(config, hugging_face.TEXT_ENCODER, "text_encoder")
        projection = values.pop("feed_forward_proj")
        values["gated"] = gated = projection == "gated-gelu"
        activation, said = values.pop("dense_act_fn"), values.pop("is_gated_act")
        # Written beside feed_forward_proj, which they follow from; read, they overrule it.
        if activation not in (None, "gelu_new" if gated else "relu") or said not in (None, gated):
            raise CheckpointError(
                f"text_encoder.feed_forward_proj is {projection!r}, and dense_act_fn "
                f"{activation!r} or is_gated_act {said!r} contradict it"
            )
        return cls(**values)


@dataclass(frozen=True)
class ModelConfig:
    """A whole model.

    Attributes:
        lm, codec: the two parts that every run needs.
        text: the text encoder, or None where the checkpoint leaves it to a companion repository.
        text_dim: width of the text encoder's output, which `enc_to_dec_proj` takes.
        quantization: what is quantized on disk, None for plain weights.
    """

    lm: LMConfig
    codec: CodecConfig
    text: T5Config | None
    text_dim: int
    quantization: QuantizationConfig | None = None

    def __post_init__(self) -> None:
        per_channel = self.lm.num_codebooks // self.lm.audio_channels
        if (
            per_channel > self.codec.num_codebooks
            or self.lm.cardinality != self.codec.codebook_size
        ):
            raise CheckpointError(
                f"the language model speaks {per_channel} codebooks of {self.lm.cardinality}, the "
                f"codec {self.codec.num_codebooks} of {self.codec.codebook_size}: "
                "they do not belong together"
            )

    @classmethod
    def from_hf(cls, config: Json) -> ModelConfig:
        """Read a Hugging Face `config.json`.

        Raises:
            CheckpointError: it is no MusicGen configuration, or one that segue does not run.
        """
        kind = config.get("model_type")
        decoder = config.get("decoder")
        decoder_kind = decoder.get("model_type") if isinstance(decoder, Mapping) else None
        if kind == "musicgen_melody" or decoder_kind == "musicgen_melody_decoder":
            raise CheckpointError(hugging_face.MELODY)
        if kind not in ("musicgen", None) or decoder is None:
            raise CheckpointError(f"it describes a {kind!r} model, not MusicGen")
        values = read_fields(config, hugging_face.MUSICGEN)
        block, foreign = values["quantization"], values["quantization_config"]
        if foreign and foreign != block:  # mlx-lm writes its own under both names
            raise CheckpointError(
                "quantization_config: the weights are packed in a way that segue does not read "
                f"({foreign.get('quant_method', 'no quant_method')}); take the checkpoint that "
                "was quantized, and `segue quantize` it"
            )
        text = T5Config.from_hf(values["text_encoder"])
        return cls(
            lm=LMConfig.from_hf(values["decoder"]),
            codec=CodecConfig.from_hf(values["audio_encoder"]),
            text=text,
            text_dim=text.dim,
            quantization=QuantizationConfig.from_json(block) if block else None,
        )


@dataclass(frozen=True)
class TrainingConfig:
    """What the `xp.cfg` of a `state_dict.bin` says of the model.

    Attributes:
        lm: its shape.
        text_dim: width of the text encoder that it was trained with.
        sample_rate: of the codec that it was trained with, in Hz; None where it is not said.
    """

    lm: LMConfig
    text_dim: int
    sample_rate: int | None

    @classmethod
    def from_xp_cfg(cls, config: Json) -> TrainingConfig:
        """Read the `xp.cfg` of an AudioCraft `state_dict.bin`, as it was parsed.

        Raises:
            IncompleteConfigError: it lacks the shape.
            CheckpointError: the model is one that segue does not run.
        """
        top = read_fields(config, audiocraft.XP_LM)
        read_fields(top["fuser"] or {}, audiocraft.FUSER, "fuser", closed=True)
        t5_name = _t5_name(top["conditioners"] or {})
        return cls(LMConfig.from_xp_cfg(config), HIDDEN_DIMS_OF_T5[t5_name], top["sample_rate"])


def _t5_name(conditioners: Json) -> str:
    """The text encoder, which must be all that conditions the model."""
    for name in conditioners:
        if name == "args":
            args = conditioners[name] or {}
            read_fields(args, audiocraft.CONDITIONERS_ARGS, "conditioners.args", closed=True)
        elif name != "description":
            raise CheckpointError(
                f"conditioners.{name}: the model is conditioned by more than a description; "
                "segue runs MusicGen's text conditioning alone"
            )
    where = "conditioners.description"
    description = read_fields(conditioners.get("description") or {}, audiocraft.DESCRIPTION, where)
    t5 = read_fields(description["t5"] or {}, audiocraft.T5_CONDITIONER, f"{where}.t5", closed=True)
    return str(t5["name"])


def _half(section: Json, own: Fields, shared: Json, where: str) -> dict[str, Any]:
    """What a half of the codec has of its own; what it has again must be as both have it."""
    for name in section:
        if name in audiocraft.SEANET and name not in own:
            both = read_fields(shared, audiocraft.SEANET, "seanet")
            half = read_fields({**shared, name: section[name]}, audiocraft.SEANET, where)
            if both != half:
                raise CheckpointError(
                    f"{where}.{name} differs from seanet.{name}; segue runs codecs whose halves "
                    "are alike"
                )
    repeated = dict.fromkeys(audiocraft.SEANET, NoEffect("says what both halves have"))
    return read_fields(section, {**repeated, **own}, where, closed=True)


def to_hf(
    config: ModelConfig, text: T5Config, quantization: QuantizationParams | None
) -> dict[str, Any]:
    """The `config.json` that `ModelConfig.from_hf` reads `config` from again."""
    lm, codec = config.lm, config.codec
    written: dict[str, Any] = {
        "model_type": "musicgen",
        "text_encoder": {
            "model_type": "t5",
            "vocab_size": text.vocab_size,
            "n_positions": text.max_tokens,
            "d_model": text.dim,
            "d_kv": text.head_dim,
            "d_ff": text.ffn_dim,
            "num_layers": text.num_layers,
            "num_heads": text.num_heads,
            "relative_attention_num_buckets": text.num_buckets,
            "relative_attention_max_distance": text.max_distance,
            "layer_norm_epsilon": text.norm_eps,
            "feed_forward_proj": "gated-gelu" if text.gated else "relu",
        },
        "audio_encoder": {
            "model_type": "encodec",
            "sampling_rate": codec.sample_rate,
            "audio_channels": codec.audio_channels,
            "num_filters": codec.num_filters,
            "upsampling_ratios": list(codec.ratios),
            "num_residual_layers": codec.num_residual_layers,
            "dilation_growth_rate": codec.dilation_growth,
            "compress": codec.compress,
            "kernel_size": codec.kernel_size,
            "last_kernel_size": codec.last_kernel_size,
            "residual_kernel_size": codec.residual_kernel_size,
            "num_lstm_layers": codec.num_lstm_layers,
            "hidden_size": codec.hidden_size,
            "codebook_size": codec.codebook_size,
            "codebook_dim": codec.codebook_dim,
            "target_bandwidths": [_bandwidth(codec)],
            "use_causal_conv": codec.causal,
            "use_conv_shortcut": codec.conv_shortcut,
            "pad_mode": codec.pad_mode,
            "trim_right_ratio": codec.trim_right_ratio,
            "norm_type": "weight_norm",
        },
        "decoder": {
            "model_type": "musicgen_decoder",
            "hidden_size": lm.dim,
            "num_hidden_layers": lm.num_layers,
            "num_attention_heads": lm.num_heads,
            "ffn_dim": lm.ffn_dim,
            "num_codebooks": lm.num_codebooks,
            "vocab_size": lm.cardinality,
            "audio_channels": lm.audio_channels,
            "activation_function": "gelu",
            "delays": list(lm.delays),
        },
    }
    if quantization is not None:
        written["quantization"] = {
            "group_size": quantization.group_size,
            "bits": quantization.bits,
            "mode": quantization.mode,
        }
    return written


def _bandwidth(codec: CodecConfig) -> float:
    """The bandwidth in kbit/s from which `CodecConfig.from_hf` finds the codebooks again."""
    bits = codec.frame_rate * math.ceil(math.log2(codec.codebook_size))
    found = codec.num_codebooks * bits / 1000
    # Where the division was rounded down, it would be one codebook less.
    return found if 1000 * found // bits == codec.num_codebooks else math.nextafter(found, math.inf)
