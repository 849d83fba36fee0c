"""The shape of a whole model, and what its parts must have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import CheckpointError
from . import hugging_face_fields as hugging_face
from .codec import CodecConfig
from .language_model import LMConfig, MelodyConfig
from .quantization import QuantizationConfig
from .schema import Json, read_fields
from .text_encoder import T5Config
from .training import STYLE

AUDIOGEN_RATE = 16_000
"""Of AudioGen's codec, in Hz; MusicGen's has 32 kHz."""


MELODY_EXTRACTOR = "MusicgenMelodyFeatureExtractor"


@dataclass(frozen=True)
class ModelConfig:
    """A whole model.

    Attributes:
        lm, codec: the two parts that every run needs.
        text: the text encoder; None where it is in a companion repository.
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

    @property
    def stride_frames(self) -> int:
        """Frames by which a full window moves, unless a request says otherwise.

        MusicGen's 18 s of 30 s, and as much of other windows; AudioGen's 2 s, which its codec of
        16 kHz tells (`extend_stride` in AudioCraft's `set_generation_params` of both).
        """
        window = self.lm.window_frames
        if self.codec.sample_rate == AUDIOGEN_RATE:
            return max(1, min(2 * self.codec.frame_rate, window - 1))
        return max(1, window * 3 // 5)

    def with_extractor(self, config: Json) -> ModelConfig:
        """Return this with the spectra that a `preprocessor_config.json` asks for.

        That is of transformers' `MusicgenMelodyFeatureExtractor`, whose window is the whole
        spectrum; what segue wrote itself says more.

        Raises:
            CheckpointError: it does not fit the model.
        """
        melody, usual = self.lm.melody, MelodyConfig()
        if melody is None or config.get("feature_extractor_type") != MELODY_EXTRACTOR:
            return self
        values = read_fields(config, hugging_face.EXTRACTOR)
        wanted = {"num_chroma": melody.bins, "sampling_rate": self.codec.sample_rate}
        for name, value in wanted.items():
            if values[name] not in (None, value):
                raise CheckpointError(f"{name} is {values[name]}, and of the model {value}")
        if (melody.spectrum, melody.window, melody.hop) != (
            usual.spectrum,
            usual.window,
            usual.hop,
        ):
            return self
        size, hop = values["n_fft"], values["hop_length"]
        melody = replace(melody, spectrum=size, window=size, hop=hop)
        return replace(self, lm=replace(self.lm, melody=melody))

    @classmethod
    def from_hf(cls, config: Json) -> ModelConfig:
        """Read a Hugging Face `config.json`.

        Raises:
            CheckpointError: it is not a MusicGen configuration, or one that segue does not run.
        """
        kind = config.get("model_type")
        decoder = config.get("decoder")
        if "style" in str(kind):
            raise CheckpointError(f"model_type is {kind!r}: the model is conditioned by {STYLE}")
        if kind not in ("musicgen", "musicgen_melody", None) or decoder is None:
            raise CheckpointError(f"it describes a {kind!r} model, not MusicGen")
        decoder_kind = decoder.get("model_type") if isinstance(decoder, Mapping) else None
        melody = None
        if "musicgen_melody" in (kind, str(decoder_kind).removesuffix("_decoder")):
            values = read_fields(config, hugging_face.MELODY)
            values["norm"] = values["norm"] or math.inf  # which JSON cannot say
            melody = MelodyConfig(**values)
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
            lm=LMConfig.from_hf(values["decoder"], melody),
            codec=CodecConfig.from_hf(values["audio_encoder"]),
            text=text,
            text_dim=text.dim,
            quantization=QuantizationConfig.from_json(block) if block else None,
        )
