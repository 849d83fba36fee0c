"""The codec that a model in AudioCraft's layout was trained with: beside it, named, or lent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import CheckpointError
from ..progress import Progress
from . import diagnosis, hub, layouts, torch_file
from .checkpoint import Checkpoint
from .config import CodecConfig, TrainingConfig, interpolation
from .files import AUDIOCRAFT_CODEC, CONFIG
from .model_files import naming, open_package, open_weights, read_config
from .tensors import Tensors

CODEC_COMPANIONS = ("mlx-community/encodec-32khz-float32", "facebook/encodec_32khz")
"""The codec of MusicGen, in two layouts."""

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)


def codec_of(
    folder: Path,
    base: Callable[[], Checkpoint | None],
    trained: TrainingConfig | None,
    progress: Progress,
) -> tuple[CodecConfig, Tensors, Path]:
    """Open the codec of a fine-tune: its own, the named one, its base model's, or the companion.

    Args:
        folder: of the fine-tune.
        base: opens the base model, if it is here.
        trained: of the fine-tune, if it says how it was trained.
        progress: receives the downloads.

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
    if named is not None and (repository := other_codec(named, by)) is not None:
        return _codec_at(hub.locate(repository, progress=progress))
    if (whole := base()) is not None:
        return whole.config.codec, whole.codec, whole.folder
    return _codec_at(_first_available(CODEC_COMPANIONS, progress))


def other_codec(named: str, by: str) -> str | None:
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
