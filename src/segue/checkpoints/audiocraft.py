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
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import BaseModelRequiredError, CheckpointError
from ..progress import Progress
from . import diagnosis, hub, layouts, torch_file
from .checkpoint import TEXT_COMPANION, Checkpoint, open_hugging_face
from .config import (
    MELODY,
    STYLE,
    CodecConfig,
    IncompleteConfigError,
    ModelConfig,
    T5Config,
    TrainingConfig,
    interpolation,
)
from .files import AUDIOCRAFT_CODEC, AUDIOCRAFT_LM, AUDIOCRAFT_TRAINING, CONFIG, CONFIG_ONLY
from .model_files import has_hf_weights, naming, open_package, open_weights, read_config
from .tensors import Tensors

CODEC_COMPANIONS = ("mlx-community/encodec-32khz-float32", "facebook/encodec_32khz")
"""The codec of MusicGen, in two layouts."""

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)


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
    base = _base_folder(base_model, progress)
    config_folder = next(
        (f for f in (folder, base) if f is not None and (f / CONFIG).exists()), None
    )
    trained = _trained(package, path, config_folder is not None)
    known: ModelConfig | None = None
    if config_folder is not None:
        known = read_config(config_folder / CONFIG, ModelConfig.from_hf)
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
    codec_config, codec, codec_source = _codec_of(folder, base, trained, progress)
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
    checkpoint.text_companion = TEXT_COMPANION if trained is None else trained.t5_name
    if base is not None and text is not None and has_hf_weights(base):
        checkpoint.text_tensors = open_hugging_face(name, base).text_tensors
        checkpoint.text_folders = [base]
    else:
        checkpoint.config = replace(config, text=None)
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
        f"{path}: the model follows melodies, which its configuration does not say; pass "
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


def _base_folder(base_model: str | None, progress: Progress) -> Path | None:
    """The folder of the base model: the whole of it if it is local, else its configuration."""
    if base_model is None:
        return None
    return hub.find_local(base_model) or hub.locate(base_model, CONFIG_ONLY, progress)


def _codec_of(
    folder: Path, base: Path | None, trained: TrainingConfig | None, progress: Progress
) -> tuple[CodecConfig, Tensors, Path]:
    """Open the codec of a fine-tune: its own, the named one, its base model's, or the companion.

    Returns:
        Its shape, its tensors, and the file or folder that they come from.
    """
    path = folder / AUDIOCRAFT_CODEC
    named = None if trained is None else trained.codec
    by = f"{folder}: compression_model_checkpoint"
    if path.exists():
        package = torch_file.load(path)
        # In MusicGen's own repositories this file only names the codec.
        if not (isinstance(package, Mapping) and isinstance(package.get("pretrained"), str)):
            return _codec_in(path)
        named, by = package["pretrained"], str(path)
    if named is not None and (repository := _other_codec(named, by)) is not None:
        return _codec_at(hub.locate(repository, progress=progress))
    if base is not None and has_hf_weights(base):
        whole = open_hugging_face(str(base), base)
        return whole.config.codec, whole.codec, base
    return _codec_at(_first_available(CODEC_COMPANIONS, progress))


def _other_codec(named: str, by: str) -> str | None:
    """The repository of a named codec; None for MusicGen's own.

    Args:
        named: as AudioCraft's `CompressionModel.get_pretrained` takes it.
        by: what names it, for errors.

    Raises:
        CheckpointError: it is none of EnCodec's in a repository of the hub; AudioCraft would look
            for a file too, but segue opens none that another file names.
    """
    name = named.removeprefix("//pretrained/")
    if name.split("/")[-1] == "encodec_32khz":
        return None
    if _REPOSITORY.fullmatch(name) is None:
        raise CheckpointError(
            f"{by}: the model was trained with the codec {diagnosis.quoted(named)}; segue runs "
            f"EnCodec, from a repository of the hub or beside the model, as {AUDIOCRAFT_CODEC}"
        )
    return name


def _codec_at(folder: Path) -> tuple[CodecConfig, Tensors, Path]:
    """Open a codec that is a repository by itself."""
    if not (folder / CONFIG).exists() and (folder / AUDIOCRAFT_CODEC).exists():
        return _codec_in(folder / AUDIOCRAFT_CODEC)
    tensors = open_weights(folder)
    config = read_config(folder / CONFIG, CodecConfig.from_hf)
    return config, layouts.from_codec(tensors), folder


def _codec_in(path: Path) -> tuple[CodecConfig, Tensors, Path]:
    """Open a codec in AudioCraft's layout."""
    package, state = open_package(path)
    xp_cfg = package.get("xp.cfg", "")
    config = naming(f"{path}: xp.cfg", lambda: CodecConfig.from_xp_cfg(interpolation.parse(xp_cfg)))
    return config, layouts.from_codec(state), path


def _first_available(names: tuple[str, ...], progress: Progress) -> Path:
    for name in names:
        if (local := hub.find_local(name)) is not None:
            return local
    return hub.locate(names[0], progress=progress)


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
    other = None if named is None else _other_codec(named, str(path))
    return text, CODEC_COMPANIONS if other is None else (other,)
