"""The shape of the codec: EnCodec, waveform to codes and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError
from . import audiocraft_fields as audiocraft
from . import hugging_face_fields as hugging_face
from .schema import Fields, IncompleteConfigError, Json, NoEffect, read_fields


@dataclass(frozen=True)
class CodecConfig:
    """EnCodec: waveform to codes and back.  Defaults are the 32 kHz codec of MusicGen.

    Attributes:
        sample_rate: of the codec, in Hz.
        num_filters: channels of the first convolution; they double with each ratio.
        ratios: strides of the decoder, outermost last; their product is the hop of one frame.
        num_codebooks: residual codebooks of a frame.
        codebook_size, codebook_dim: entries, and width of one entry.
        causal: whether all padding is on the left.
        conv_shortcut: whether residual blocks have a convolution on their skip connection.
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


def _half(section: Json, own: Fields, shared: Json, where: str) -> dict[str, Any]:
    """Read the fields of one half of the codec; those it repeats must equal the shared ones."""
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
