"""The shape of a MusicGen model: what `config.json` and `xp.cfg` say, validated once.

Field names are segue's; each `from_...` names where its facts lie in the file it reads.  Anything
that segue cannot run is refused here, so that the engines may assume what these classes promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import CheckpointError

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
        """Read the `quantization` block of a `config.json`."""

        def params(entry: Json) -> QuantizationParams:
            return QuantizationParams(
                entry["bits"], entry["group_size"], entry.get("mode", "affine")
            )

        exceptions = {n: params(e) for n, e in block.items() if isinstance(e, Mapping)}
        return cls(params(block), exceptions)


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
        if config.get("model_type") == "musicgen_melody_decoder":
            raise CheckpointError(
                "this is a MusicGen melody checkpoint, whose conditioning is prepended to the "
                "sequence: segue does not run those; take the same size without -melody"
            )
        if config.get("activation_function", "gelu") != "gelu":
            raise CheckpointError(
                f"the decoder's activation is {config['activation_function']!r}; MusicGen has gelu"
            )
        return cls(
            dim=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            ffn_dim=config["ffn_dim"],
            num_codebooks=config.get("num_codebooks", 4),
            cardinality=config.get("vocab_size", 2048),
            audio_channels=config.get("audio_channels", 1),
            delays=tuple(config.get("delays", ())),
        )

    @classmethod
    def from_xp_cfg(cls, config: Json) -> LMConfig:
        """Read AudioCraft's training configuration (`xp.cfg` of a `state_dict.bin`)."""
        lm = config["transformer_lm"]
        stereo = config.get("interleave_stereo_codebooks") or {}
        pattern = config.get("codebooks_pattern") or {}
        if pattern.get("modeling", "delay") != "delay":
            raise CheckpointError(
                f"the codebooks are interleaved by the pattern {pattern['modeling']!r}; "
                "segue runs MusicGen's delay pattern"
            )
        return cls(
            dim=lm["dim"],
            num_layers=lm["num_layers"],
            num_heads=lm["num_heads"],
            ffn_dim=int(lm.get("hidden_scale", 4) * lm["dim"]),
            num_codebooks=lm.get("n_q", 4),
            cardinality=lm.get("card", 2048),
            audio_channels=2 if stereo.get("use") else 1,
            delays=tuple((pattern.get("delay") or {}).get("delays") or ()),
        )


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
        if config.get("model_type", "encodec") != "encodec":
            raise CheckpointError(
                f"the audio codec is a {config['model_type']!r}; segue runs EnCodec"
            )
        if config.get("norm_type", "weight_norm") != "weight_norm" or config.get("normalize"):
            raise CheckpointError(
                "the codec normalises its input or its layers, as EnCodec at 48 kHz does; "
                "segue runs the 32 kHz codec of MusicGen"
            )
        sample_rate = config.get("sampling_rate", 32_000)
        ratios = tuple(config.get("upsampling_ratios", (8, 5, 4, 4)))
        codebook_size = config.get("codebook_size", 2048)
        frame_rate = math.ceil(sample_rate / math.prod(ratios))
        kbits = config.get("target_bandwidths", (2.2,))[-1]
        hidden_size = config.get("hidden_size", 128)
        return cls(
            sample_rate=sample_rate,
            audio_channels=config.get("audio_channels", 1),
            num_filters=config.get("num_filters", 64),
            ratios=ratios,
            num_residual_layers=config.get("num_residual_layers", 1),
            dilation_growth=config.get("dilation_growth_rate", 2),
            compress=config.get("compress", 2),
            kernel_size=config.get("kernel_size", 7),
            last_kernel_size=config.get("last_kernel_size", 7),
            residual_kernel_size=config.get("residual_kernel_size", 3),
            num_lstm_layers=config.get("num_lstm_layers", 2),
            hidden_size=hidden_size,
            num_codebooks=int(1000 * kbits // (frame_rate * math.log2(codebook_size))),
            codebook_size=codebook_size,
            codebook_dim=config.get("codebook_dim") or hidden_size,
            causal=config.get("use_causal_conv", False),
            pad_mode=config.get("pad_mode", "reflect"),
            trim_right_ratio=config.get("trim_right_ratio", 1.0),
            conv_shortcut=config.get("use_conv_shortcut", False),
        )

    @classmethod
    def from_xp_cfg(cls, text: str) -> CodecConfig:
        """Read the `xp.cfg` text of an AudioCraft `compression_state_dict.bin`."""
        config = _yaml(text)
        try:
            seanet = config["seanet"]
            if seanet.get("norm", "weight_norm") not in ("weight_norm", "none"):
                raise CheckpointError(f"the codec is normalised by {seanet['norm']!r}")
            return cls(
                sample_rate=config["sample_rate"],
                audio_channels=seanet.get("channels", 1),
                num_filters=seanet["n_filters"],
                ratios=tuple(seanet["ratios"]),
                num_residual_layers=seanet.get("n_residual_layers", 1),
                dilation_growth=seanet.get("dilation_base", 2),
                compress=seanet.get("compress", 2),
                kernel_size=seanet.get("kernel_size", 7),
                last_kernel_size=seanet.get("last_kernel_size", 7),
                residual_kernel_size=seanet.get("residual_kernel_size", 3),
                num_lstm_layers=seanet.get("lstm", 2),
                hidden_size=seanet["dimension"],
                num_codebooks=config["rvq"]["n_q"],
                codebook_size=config["rvq"]["bins"],
                codebook_dim=seanet["dimension"],
                causal=seanet.get("causal", False),
                pad_mode=seanet.get("pad_mode", "reflect"),
                trim_right_ratio=(seanet.get("decoder") or {}).get("trim_right_ratio", 1.0),
                conv_shortcut=not seanet.get("true_skip", True),
            )
        except (KeyError, TypeError) as missing:
            raise CheckpointError(f"the codec's xp.cfg does not say {missing}") from None


@dataclass(frozen=True)
class T5Config:
    """The encoder half of T5.  Defaults are those of `t5-base`.

    Attributes:
        dim: width of the residual stream, `d_model`.
        head_dim: `d_kv`; heads need not fill `dim`.
        num_buckets, max_distance: of the relative position bias.
        gated: whether the feed-forward is gated (T5 1.1, Flan) rather than one ReLU.
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

    @classmethod
    def from_hf(cls, config: Json) -> T5Config:
        """Read the `text_encoder` part of a Hugging Face `config.json`, or a T5's own."""
        if config.get("model_type", "t5") != "t5":
            raise CheckpointError(f"the text encoder is a {config['model_type']!r}; segue runs T5")
        projection = config.get("feed_forward_proj", "relu")
        if projection not in ("relu", "gated-gelu"):
            raise CheckpointError(
                f"the text encoder's feed-forward is {projection!r}; segue runs relu and gated-gelu"
            )
        return cls(
            vocab_size=config["vocab_size"],
            dim=config["d_model"],
            head_dim=config["d_kv"],
            num_heads=config["num_heads"],
            num_layers=config["num_layers"],
            ffn_dim=config["d_ff"],
            num_buckets=config.get("relative_attention_num_buckets", 32),
            max_distance=config.get("relative_attention_max_distance", 128),
            norm_eps=config.get("layer_norm_epsilon", 1e-6),
            gated=projection.startswith("gated"),
        )


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
        if config.get("model_type") not in ("musicgen", None) or "decoder" not in config:
            if config.get("model_type") == "musicgen_melody":
                LMConfig.from_hf({"model_type": "musicgen_melody_decoder"})
            raise CheckpointError(
                f"config.json describes a {config.get('model_type')!r} model, not MusicGen"
            )
        try:
            text = T5Config.from_hf(config["text_encoder"])
            block = config.get("quantization")
            return cls(
                lm=LMConfig.from_hf(config["decoder"]),
                codec=CodecConfig.from_hf(config["audio_encoder"]),
                text=text,
                text_dim=text.dim,
                quantization=QuantizationConfig.from_json(block) if block else None,
            )
        except KeyError as missing:
            raise CheckpointError(f"config.json lacks {missing}") from None


def read_xp_cfg(text: str) -> tuple[LMConfig, int]:
    """The language model's shape, and its text encoder's width, from a `state_dict.bin`'s `xp.cfg`.

    Raises:
        CheckpointError: it is no training configuration, or lacks the shape.
    """
    config = _yaml(text)
    try:
        conditioner = (config.get("conditioners") or {}).get("description") or {}
        t5_name = (conditioner.get("t5") or {}).get("name", "t5-base")
        return LMConfig.from_xp_cfg(config), HIDDEN_DIMS_OF_T5.get(t5_name, 768)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"xp.cfg does not tell the model's shape ({error!r})") from None


def _yaml(text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"xp.cfg is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise CheckpointError("xp.cfg is not a training configuration")
    return config


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
            "target_bandwidths": [
                codec.num_codebooks * codec.frame_rate * math.log2(codec.codebook_size) / 1000
            ],
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
