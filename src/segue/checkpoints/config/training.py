"""The shape of a language model by the training configuration that AudioCraft saves beside it."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CheckpointError
from . import audiocraft_fields as audiocraft
from .audiocraft_fields import FLAN, HIDDEN_DIMS_OF_T5
from .language_model import LMConfig
from .schema import Json, read_fields, shown

SEGMENT_DURATION = 30.0
"""Of MusicGen's training, in seconds."""

_OTHER_MODELS = {
    "chroma_stem": "a melody, which AudioCraft separates from the mix first; segue runs melody "
    "models in the Hugging Face layout alone, such as facebook/musicgen-melody",
    "style": "the style of a recording, as MusicGen Style does",
    "clap": "a joint embedding of text and audio (CLAP)",
    "lut": "a table of labels, which AudioCraft's own generation cannot be given either",
}
"""What a conditioner of another model than T5 conditions on."""


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
        name, t5 = _text_conditioner(top["conditioners"] or {}, top["fuser"] or {})
        dataset = read_fields(top["dataset"] or {}, audiocraft.DATASET, "dataset")
        named = top["compression_model_checkpoint"] or ""
        codec = named.removeprefix(PRETRAINED) if named.startswith(PRETRAINED) else None
        return cls(
            lm=LMConfig.from_xp_cfg(config),
            conditioner=name,
            t5_name=t5["name"],
            t5_trained=t5["finetune"],
            sample_rate=top["sample_rate"],
            segment_duration=dataset["segment_duration"] or SEGMENT_DURATION,
            codec=codec,
        )


PRETRAINED = "//pretrained/"
"""Begins the names of codecs that AudioCraft looks for elsewhere."""


def _text_conditioner(conditioners: Json, fuser: Json) -> tuple[str, Json]:
    """The name and the fields of the text encoder, which must be the only conditioner.

    AudioCraft's `MusicGen.generate` passes texts to `description` alone, and fails where another
    conditioner waits for one; so a model with two is one that nobody can play.
    """
    names = [name for name in conditioners if name != "args"]
    args = conditioners.get("args") or {}
    read_fields(args, audiocraft.CONDITIONERS_ARGS, "conditioners.args", closed=True)
    # Another model first: it says what the entry of the fuser is for.
    for name in names:
        section = conditioners[name]
        model = section.get("model") if hasattr(section, "get") else None
        if isinstance(model, str) and model in _OTHER_MODELS:
            raise CheckpointError(
                f"conditioners.{name}: the model is conditioned by {_OTHER_MODELS[model]}"
            )
    if len(names) > 1:
        raise CheckpointError(
            f"conditioners.{names[1]}: the model is conditioned by more than one text; segue runs "
            "MusicGen's text conditioning alone"
        )
    name = names[0] if names else "description"
    where = f"conditioners.{name}"
    section = read_fields(conditioners.get(name) or {}, audiocraft.CONDITIONER, where)
    t5 = read_fields(section["t5"] or {}, audiocraft.T5_CONDITIONER, f"{where}.t5", closed=True)
    cross = read_fields(fuser, audiocraft.FUSER, "fuser", closed=True)["cross"]
    if cross not in (None, (name,)):
        raise CheckpointError(
            f"fuser.cross is {shown(list(cross))}: what cross-attention sees; segue runs "
            f"{[name]} alone"
        )
    return name, t5
