"""The shape of a language model by the training configuration that AudioCraft saves beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...errors import CheckpointError
from . import audiocraft_fields as audiocraft
from .audiocraft_fields import FLAN, HIDDEN_DIMS_OF_T5
from .language_model import LMConfig, MelodyConfig
from .schema import RATE, Json, read_fields, shown

SEGMENT_DURATION = 30.0
"""Of MusicGen's training, in seconds."""

STYLE = (
    "the style of a recording, as MusicGen Style does, by features of another network (MERT) that "
    "segue does not run; take facebook/musicgen-melody, which follows a recording's notes, or let "
    "another MusicGen continue the recording"
)

_OTHER_MODELS = {
    "style": STYLE,
    "clap": "a joint embedding of text and audio (CLAP)",
    "lut": "a table of labels, which AudioCraft's own generation cannot be given either",
    "chords_emb": "chords, as JASCO does",
    "drum_latents": "drums, as JASCO does",
    "melody": "notes, as JASCO does",
}
"""What a conditioner of a model that segue does not run conditions on."""

MELODY = "self_wav"
"""The conditioner that AudioCraft's `MusicGen` passes a melody to."""


@dataclass(frozen=True)
class TrainingConfig:
    """The shape of a model by the `xp.cfg` of its `state_dict.bin`.

    Attributes:
        lm: the language model.
        conditioner: the name of its text conditioner, mostly `description`.
        t5_name: the text encoder that it was trained with, a repository of the hub.
        t5_trained: whether that was trained along, so that its weights are in the same file.
        sample_rate: of the codec that it was trained with, in Hz; None where it is not given.
        segment_duration: of its longest sequence, in seconds.
        codec: the codec that it was trained with, a repository of the hub or another name of
            AudioCraft's; None where it is a file of the one who trained it.
    """

    lm: LMConfig
    conditioner: str = "description"
    t5_name: str = "t5-base"
    t5_trained: bool = False
    sample_rate: int | None = None
    segment_duration: float = SEGMENT_DURATION
    codec: str | None = None

    @property
    def text_dim(self) -> int:
        """Width of the text encoder's output."""
        return HIDDEN_DIMS_OF_T5[self.t5_name]

    @property
    def gated(self) -> bool:
        """Whether the text encoder's feed-forwards are gated; see `T5Config.gated`."""
        return self.t5_name.startswith(FLAN)

    @classmethod
    def from_xp_cfg(cls, config: Json) -> TrainingConfig:
        """Read the `xp.cfg` of an AudioCraft `state_dict.bin`, as it was parsed.

        Raises:
            IncompleteConfigError: it lacks the shape.
            CheckpointError: the model is one that segue does not run.
        """
        top = read_fields(config, audiocraft.XP_LM)
        conditioners = _conditioners(top["conditioners"] or {})
        dataset = read_fields(top["dataset"] or {}, audiocraft.DATASET, "dataset")
        duration = dataset["segment_duration"] or SEGMENT_DURATION
        melody, melody_rate = _melody(conditioners.pop(MELODY, None), duration, top["sample_rate"])
        name, t5 = _text(conditioners, melody is not None)
        _check_fuser(top["fuser"] or {}, name, melody is not None)
        named = top["compression_model_checkpoint"] or ""
        codec = named.removeprefix(PRETRAINED) if named.startswith(PRETRAINED) else None
        return cls(
            lm=replace(LMConfig.from_xp_cfg(config), melody=melody),
            conditioner=name,
            t5_name=t5["name"],
            t5_trained=t5["finetune"],
            sample_rate=top["sample_rate"] or melody_rate,
            segment_duration=duration,
            codec=codec,
        )


PRETRAINED = "//pretrained/"
"""Begins the names of codecs that AudioCraft looks for elsewhere."""


def _conditioners(section: Json) -> dict[str, Any]:
    """The conditioners by their names; those of models that segue does not run are refused."""
    args = section.get("args") or {}
    read_fields(args, audiocraft.CONDITIONERS_ARGS, "conditioners.args", closed=True)
    found = {name: section[name] for name in section if name != "args"}
    for name, conditioner in found.items():
        model = conditioner.get("model") if hasattr(conditioner, "get") else None
        if isinstance(model, str) and model in _OTHER_MODELS:
            raise CheckpointError(
                f"conditioners.{name}: the model is conditioned by {_OTHER_MODELS[model]}"
            )
        if model == "chroma_stem" and name != MELODY:
            raise CheckpointError(
                f"conditioners.{name}: the model follows a melody by this name, and AudioCraft's "
                f"own generation passes one to {MELODY!r} alone"
            )
    return found


def _melody(
    section: Any, duration: float, sample_rate: int | None
) -> tuple[MelodyConfig | None, int | None]:
    """How a melody is encoded, and at which rate; None for both where there is none."""
    if section is None:
        return None, None
    where = f"conditioners.{MELODY}"
    chroma = read_fields(section, audiocraft.MELODY_CONDITIONER, where)["chroma_stem"]
    where += ".chroma_stem"
    melody = MelodyConfig.from_xp_cfg(chroma, where, duration)
    rate: int = RATE.convert(chroma["sample_rate"])
    if sample_rate not in (None, rate):
        raise CheckpointError(
            f"{where}.sample_rate is {rate}, and sample_rate {sample_rate}; segue runs melodies at "
            "the rate of the codec"
        )
    return melody, rate


def _text(conditioners: Json, beside_melody: bool) -> tuple[str, Json]:
    """The name and the fields of the text encoder, which must be the only one.

    AudioCraft's `MusicGen.generate` passes texts to `description` alone, and fails where another
    conditioner waits for one; so a model with two is one that nobody can play.
    """
    names = list(conditioners)
    if len(names) > 1:
        raise CheckpointError(
            f"conditioners.{names[1]}: the model is conditioned by more than one text; segue runs "
            "MusicGen's text conditioning alone"
        )
    if beside_melody and not names:
        raise CheckpointError(
            f"conditioners: there is {MELODY} and no text; segue runs melody models that follow "
            "both"
        )
    name = names[0] if names else "description"
    where = f"conditioners.{name}"
    section = read_fields(conditioners.get(name) or {}, audiocraft.CONDITIONER, where)
    t5 = read_fields(section["t5"] or {}, audiocraft.T5_CONDITIONER, f"{where}.t5", closed=True)
    return name, t5


def _check_fuser(section: Json, text: str, melody: bool) -> None:
    """Refuse conditions that go elsewhere than in MusicGen.

    That is cross-attention for a text alone.  With a melody, both are put before the sequence: the
    melody, then the text, whatever the order in `fuser.prepend`, for AudioCraft's provider of
    conditions collects texts first, and its fuser puts each before what is there.
    """
    fuser = read_fields(section, audiocraft.FUSER, "fuser", closed=True)
    wanted: dict[str, set[str]] = {
        "cross": set() if melody else {text},
        "prepend": {MELODY, text} if melody else set(),
    }
    for name, why in (
        ("cross", "what cross-attention sees"),
        ("prepend", "what is put before the sequence"),
    ):
        if fuser[name] is not None and set(fuser[name]) != wanted[name]:
            raise CheckpointError(
                f"fuser.{name} is {shown(list(fuser[name]))}: {why}; segue runs "
                f"{sorted(wanted[name], reverse=True)} alone"
                + (f" where there is {MELODY}" if melody else "")
            )
    ignored = set(fuser["ignore"]) & {MELODY, text}
    if ignored:
        raise CheckpointError(
            f"fuser.ignore has {ignored.pop()!r}, so the model does not hear it; segue runs models "
            "that do"
        )
