"""The shape of the language model: the decoder-only transformer over codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import CheckpointError
from . import audiocraft_fields as audiocraft
from . import hugging_face_fields as hugging_face
from .schema import FRAMES_PER_WINDOW, Json, read_fields, shown


@dataclass(frozen=True)
class MelodyConfig:
    """How a melody comes before the sequence; the defaults are those of MusicGen's melody models.

    Attributes:
        bins: pitch classes of an octave.
        frames: of a melody, repeated or cut to them: 235 are 30 s.
        spectrum: samples of the Fourier transform.
        window: samples of its Hann window, at most `spectrum`.
        hop: samples from one frame to the next.
        strongest: whether a frame is its strongest pitch class alone, as a one-hot vector.
        norm: where it is not, all of them are divided by their norm of this order.
        samples: of a longer melody that each window of a longer output is given; None for those of
            the window's frames.
    """

    bins: int = 12
    frames: int = 235
    spectrum: int = 1 << 14
    window: int = 1 << 14
    hop: int = 1 << 12
    strongest: bool = True
    norm: float = math.inf
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.window > self.spectrum:
            raise CheckpointError(
                f"the melody's window has {self.window} samples, and its Fourier transform "
                f"{self.spectrum}, which must not be fewer"
            )
        if not 1 <= self.frames <= MAX_MELODY_FRAMES:
            raise CheckpointError(
                f"a melody would take {self.frames} frames before the sequence; segue runs 1 to "
                f"{MAX_MELODY_FRAMES}"
            )

    @classmethod
    def from_xp_cfg(cls, config: Json, where: str, duration: float) -> MelodyConfig:
        """Read AudioCraft's `chroma_stem`.

        Args:
            config: that table.
            where: its dotted name, for messages.
            duration: of the longest sequence, in seconds, which says how many frames there are
                (`_get_chroma_len` of AudioCraft's `ChromaStemConditioner`).

        Raises:
            CheckpointError: a field has no valid value, or one that segue does not implement.
        """
        values = read_fields(config, audiocraft.CHROMA_STEM, where, closed=True)
        window = values["winlen"] or 2 ** values["radix2_exp"]
        spectrum = values["nfft"] or window
        hop = values["winhop"] or max(1, window // 4)
        samples = int(values["sample_rate"] * duration)
        return cls(
            bins=values["bins"],
            # Spectra are of samples that are padded to one, and mirrored at both ends.
            frames=1 + (max(samples, spectrum) - spectrum % 2) // hop,
            spectrum=spectrum,
            window=window,
            hop=hop,
            strongest=values["strongest"],
            norm=values["norm"],
            samples=samples,
        )


MAX_MELODY_FRAMES = 4096


@dataclass(frozen=True)
class LMConfig:
    """The decoder-only transformer over codes.

    Attributes:
        dim: width of the residual stream.
        num_layers: of the decoder.
        num_heads: of attention; they divide `dim`.
        ffn_dim: width of the feed-forward network.
        num_codebooks: codebooks of the sequence; 8 for stereo (left and right interleaved).
        cardinality: entries of a codebook; the special token has this number.
        audio_channels: 1 or 2.
        delays: steps by which each codebook is delayed; see `segue.pattern`.
        window_frames: of the longest sequence that it was trained on.
        melody: of a melody model, whose text and melody come before the sequence; None where
            layers have cross-attention over the text.
    """

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int = 4
    cardinality: int = 2048
    audio_channels: int = 1
    delays: tuple[int, ...] = ()
    window_frames: int = FRAMES_PER_WINDOW
    melody: MelodyConfig | None = None

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
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def special_token(self) -> int:
        """The token at the start of a sequence, and where the delay pattern has no code."""
        return self.cardinality

    @classmethod
    def from_hf(cls, config: Json, melody: MelodyConfig | None = None) -> LMConfig:
        """Read the `decoder` part of a Hugging Face `config.json`.

        Args:
            config: that part.
            melody: of a melody model.

        Raises:
            CheckpointError: a field has no valid value, or one that segue does not implement.
        """
        values = read_fields(config, hugging_face.DECODER, "decoder")
        for name in ("pad_token_id", "bos_token_id"):
            token = values.pop(name)
            if token is not None and 0 <= token < values["cardinality"]:
                raise CheckpointError(
                    f"decoder.{name} is {token}, which is a code; MusicGen's special token is "
                    f"vocab_size, {values['cardinality']}"
                )
        return cls(**values, melody=melody)

    @classmethod
    def from_xp_cfg(cls, config: Json) -> LMConfig:
        """Read AudioCraft's training configuration (`xp.cfg` of a `state_dict.bin`).

        Raises:
            CheckpointError: a field has no valid value, or one that segue does not implement.
        """
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
        modeling = values.pop("q_modeling")
        if pattern["modeling"] is None:
            # Then, and only then, transformer_lm.q_modeling counts, and always has these delays.
            if modeling != "delay":
                raise CheckpointError(
                    f"transformer_lm.q_modeling is {shown(modeling)}, and {name}.modeling null: "
                    "how codebooks are interleaved; segue runs 'delay' alone"
                )
            delay["delays"] = None
        per_channel = values["num_codebooks"] // (2 if stereo else 1)
        if top["compression_model_n_q"] not in (None, per_channel):
            raise CheckpointError(
                f"compression_model_n_q is {top['compression_model_n_q']}, and transformer_lm.n_q "
                f"makes {per_channel} codebooks a channel"
            )
        if delay["delays"] is None and top[name] is not None:  # AudioCraft's default
            delay["delays"] = tuple(range(values["num_codebooks"]))
        return cls(**values, audio_channels=2 if stereo else 1, delays=delay["delays"] or ())
