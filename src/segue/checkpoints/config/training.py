"""The shape of a language model by the training configuration that AudioCraft saves beside it."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CheckpointError
from . import audiocraft_fields as audiocraft
from .language_model import LMConfig
from .schema import Json, read_fields

HIDDEN_DIMS_OF_T5 = {"t5-small": 512, "t5-base": 768, "t5-large": 1024}
"""`d_model` of the text encoders that an AudioCraft configuration may name."""


@dataclass(frozen=True)
class TrainingConfig:
    """The shape of a model by the `xp.cfg` of its `state_dict.bin`.

    Attributes:
        lm: the language model.
        text_dim: width of the text encoder that it was trained with.
        sample_rate: of the codec that it was trained with, in Hz; None where it is not given.
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
    """The name of the text encoder, which must be the only conditioner."""
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
