"""Open a checkpoint in AudioCraft's layout, and find the parts that it does not bring.

That is an export, `state_dict.bin`, or a training checkpoint, `checkpoint.th`.  What was trained is
in it: the language model, sometimes with the text encoder.  The codec and the text encoder that it
was trained with are named in it or beside it; they come from the base model where they are the
same, else from repositories of the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..errors import BaseModelRequiredError, CheckpointError
from ..progress import Progress
from . import hub, layouts, torch_file
from .audiocraft_codec import CODEC_COMPANIONS, codec_of, other_codec
from .checkpoint import TEXT_COMPANION, Checkpoint, open_hugging_face
from .config import (
    FLAN,
    HIDDEN_DIMS_OF_T5,
    MELODY,
    STYLE,
    IncompleteConfigError,
    ModelConfig,
    T5Config,
    TrainingConfig,
    interpolation,
)
from .files import AUDIOCRAFT_CODEC, AUDIOCRAFT_LM, AUDIOCRAFT_TRAINING, CONFIG, CONFIG_ONLY
from .model_files import has_hf_weights, naming, open_package, read_config
from .tensors import Tensors


def lm_file(folder: Path) -> Path | None:
    """Find the language model in AudioCraft's layout; None if `folder` holds none."""
    names = (AUDIOCRAFT_LM, AUDIOCRAFT_TRAINING)
    return next((folder / name for name in names if (folder / name).exists()), None)


def open_audiocraft(
    name: str, path: Path, base_model: str | None, progress: Progress
) -> Checkpoint:
    """Open the language model in the file `path`, with what belongs to it.

    Names and shapes are not checked yet.

    Args:
        name: of the checkpoint.
        path: from `lm_file`.
        base_model: see `opening.open_checkpoint`.
        progress: receives the downloads.

    Raises:
        BaseModelRequiredError: nothing says how large the model is.
        CheckpointError: it is damaged, or a model that segue does not run.
    """
    folder = path.parent
    package, state = open_package(path)
    base = None if base_model is None else _Base(base_model, progress)
    own_config = (folder / CONFIG).exists()
    trained = _trained(package, path, own_config or (base is not None and base.says_shape))
    known: ModelConfig | None = None
    if own_config:
        known = read_config(folder / CONFIG, ModelConfig.from_hf)
    elif base is not None and (trained is None or base.is_hugging_face):
        known = base.config
    shaped = known if trained is None else trained
    follows = shaped is not None and shaped.lm.melody is not None
    _check_melody(state, path, shaped is not None, follows)
    tensors = layouts.from_audiocraft(state, _conditioner(state, trained), follows)
    own_text = tensors.under(layouts.TEXT)
    own_text.pop("encoder.embed_tokens.weight", None)  # tied to shared.weight
    lm = Tensors({n: t for n, t in tensors.items() if not n.startswith(layouts.TEXT)})
    if trained is not None and trained.t5_trained and not own_text:
        raise CheckpointError(
            f"{path}: conditioners.{trained.conditioner}.t5.finetune is true, and the file lacks "
            "the text encoder that was trained"
        )
    text = _text_of(known, trained, lm)
    if trained is not None:
        lm_config, text_dim = trained.lm, text.dim if text is not None else trained.text_dim
    elif known is not None:
        lm_config, text_dim = known.lm, known.text_dim
    else:
        raise BaseModelRequiredError(
            f"{path}: the file does not say how large the model is, and there is no {CONFIG}; "
            "pass --base-model with the model it was trained from"
        )
    codec_config, codec, codec_source = codec_of(
        folder, lambda: None if base is None else base.whole, trained, progress
    )
    if trained is not None and trained.sample_rate not in (None, codec_config.sample_rate):
        raise CheckpointError(
            f"{path}: sample_rate is {trained.sample_rate}, and the codec at {codec_source} has "
            f"{codec_config.sample_rate}; put the codec that it was trained with beside it, as "
            f"{AUDIOCRAFT_CODEC}"
        )
    if trained is not None:
        frames = int(trained.segment_duration * codec_config.frame_rate)
        melody = trained.lm.melody
        if melody is not None and melody.samples == frames * codec_config.hop_length:
            melody = replace(melody, samples=None)
        lm_config = replace(trained.lm, window_frames=max(2, frames), melody=melody)
    config = naming(path, lambda: ModelConfig(lm_config, codec_config, text, text_dim))
    checkpoint = Checkpoint(name, folder, config, lm, codec)
    lent = base.whole if base is not None and text is not None else None
    if lent is not None and lent.config.text is not None:
        checkpoint.text_tensors, checkpoint.text_folders = lent.text_tensors, lent.text_folders
    else:
        checkpoint.config = replace(config, text=None)
    if trained is not None:
        checkpoint.text_companion = trained.t5_name
    elif text is not None:
        checkpoint.text_companion, checkpoint.text_shape = _companion(text), text
    elif base is not None and base.whole is not None:  # which has AudioCraft's layout too
        checkpoint.text_companion = base.whole.text_companion
        checkpoint.text_tensors = base.whole.text_tensors
    if own_text:
        checkpoint.text_tensors = own_text
    return checkpoint


def _check_melody(state: Tensors, path: Path, shaped: bool, follows: bool) -> None:
    """Refuse tensors of a melody's conditioner, or a style's, where the shape at hand has none."""
    prefix = f"condition_provider.conditioners.{MELODY}."
    parts = {n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)}
    if parts & _PARTS_OF_STYLE:
        raise CheckpointError(f"{path}: the model is conditioned by {STYLE}")
    if not parts or follows:
        return
    if not shaped:
        raise BaseModelRequiredError(
            f"{path}: the file does not say how large the model is, which follows melodies; pass "
            "--base-model facebook/musicgen-melody, or the model it was trained from"
        )
    raise CheckpointError(
        f"{path}: the model follows melodies ({MELODY}), which its configuration lacks; pass "
        "--base-model with the melody model it was trained from, such as facebook/musicgen-melody"
    )


_PARTS_OF_STYLE = {"embed", "transformer", "rvq", "batch_norm", "feat_extractor"}
"""Of AudioCraft's `StyleConditioner`."""


def _conditioner(state: Tensors, trained: TrainingConfig | None) -> str:
    """The name of the text conditioner: as it is given, or the only one that has tensors."""
    if trained is not None:
        return trained.conditioner
    pattern = re.compile(r"condition_provider\.conditioners\.(\w+)\.")
    names = {match[1] for name in state if (match := pattern.match(name))} - {MELODY}
    return names.pop() if len(names) == 1 else "description"


def _text_of(
    known: ModelConfig | None, trained: TrainingConfig | None, lm: Tensors
) -> T5Config | None:
    """The text encoder in the configuration at hand, if it is of the kind that was trained with."""
    text = None if known is None else known.text
    if text is None or trained is None:
        return text
    projection = lm.get(f"{layouts.PROJECTION}weight")
    wide = text.dim if projection is None else projection.shape[-1]
    same = trained.gated == text.gated and text.dim == wide
    # Of one width there are three: t5-large, and the larger ones with wider feed-forwards.
    if trained.t5_name in ("t5-3b", "t5-11b"):
        same = same and text.ffn_dim > 4 * text.dim
    return text if same else None


def _trained(package: Mapping[str, Any], path: Path, has_config: bool) -> TrainingConfig | None:
    """Read the `xp.cfg` in `package`, if it is complete.

    Args:
        package: the content of `path`.
        path: for messages.
        has_config: whether there is another configuration, so that it may be incomplete.
    """
    xp_cfg = package.get("xp.cfg")
    if not isinstance(xp_cfg, str | Mapping):
        return None
    try:
        return TrainingConfig.from_xp_cfg(interpolation.parse(xp_cfg))
    except IncompleteConfigError as error:
        if has_config:
            return None
        raise BaseModelRequiredError(f"{path}: xp.cfg: {error}; pass --base-model") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: xp.cfg: {error}") from None


class _Base:
    """The base model: the whole of it if it is local, else its configuration.

    Args:
        name: of it.
        progress: receives the downloads.
    """

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self.folder = hub.find_local(name) or hub.locate(name, CONFIG_ONLY, progress)

    @property
    def is_hugging_face(self) -> bool:
        """Whether it has a `config.json`."""
        return (self.folder / CONFIG).exists()

    @property
    def says_shape(self) -> bool:
        """Whether it says how large it is."""
        return self.is_hugging_face or lm_file(self.folder) is not None

    @property
    def config(self) -> ModelConfig | None:
        """Its shape."""
        if self.is_hugging_face:
            return read_config(self.folder / CONFIG, ModelConfig.from_hf)
        return None if self.whole is None else self.whole.config

    @cached_property
    def whole(self) -> Checkpoint | None:
        """All of it; None where there is only its configuration."""
        if has_hf_weights(self.folder):
            return open_hugging_face(self._name, self.folder)
        if (path := lm_file(self.folder)) is not None:
            return open_audiocraft(self._name, path, None, self._progress)
        return None


def _companion(text: T5Config) -> str:
    """The repository of a text encoder of which only the shape is here, among those that count."""
    if text.ffn_dim > 4 * text.dim and not text.gated:  # three have the width of t5-large
        return "t5-11b" if text.ffn_dim > 16 * text.dim else "t5-3b"
    for name, dim in HIDDEN_DIMS_OF_T5.items():
        if (dim, name.startswith(FLAN)) == (text.dim, text.gated):
            return name
    return TEXT_COMPANION


def companions(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text encoder and the codec that a language model needs beside it.

    Args:
        path: from `lm_file`.

    Returns:
        The repository of the text encoder, and those of which one has the codec; none if the codec
        lies beside the model.

    Raises:
        CheckpointError: the files cannot be read.
    """
    codec = path.parent / AUDIOCRAFT_CODEC
    stamps = [(p.stat().st_mtime_ns, p.stat().st_size) for p in (path, codec) if p.exists()]
    return _companions(path, codec, tuple(stamps))


@lru_cache(maxsize=256)  # lists of models ask again and again
def _companions(
    path: Path, codec: Path, stamps: tuple[tuple[int, int], ...]
) -> tuple[str, tuple[str, ...]]:
    trained = _trained(torch_file.load(path), path, True)
    text = TEXT_COMPANION if trained is None else trained.t5_name
    named = None if trained is None else trained.codec
    if codec.exists():
        package = torch_file.load(codec)
        named = package.get("pretrained") if isinstance(package, Mapping) else None
        if not isinstance(named, str):
            return text, ()
    other = None if named is None else other_codec(named, str(path))
    return text, CODEC_COMPANIONS if other is None else (other,)
