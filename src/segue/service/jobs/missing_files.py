"""The files of a model that are not on this machine.

A fine-tune in AudioCraft's layout mostly brings the language model alone; see
`segue.checkpoints.opening`.
"""

from __future__ import annotations

from pathlib import Path

from ...checkpoints import hub
from ...checkpoints.audiocraft import companions, lm_file
from ...checkpoints.audiocraft_codec import CODEC_COMPANIONS
from ...checkpoints.checkpoint import TEXT_COMPANION
from ...checkpoints.files import AUDIOCRAFT_CODEC, CONFIG, SAFETENSORS, TORCH
from ...errors import CheckpointError


def missing_repositories(source: str, base: str | None = None, text: bool = True) -> list[str]:
    """The repositories of the hub that have to be downloaded before a model can run.

    Args:
        source: name for `hub.locate`.
        base: the catalogue's base of a fine-tune.
        text: whether there is a description to encode.

    What companions a fine-tune needs is known when it is downloaded: call again then.
    """
    folder = hub.find_local(source)
    if folder is None:
        return [source]
    trained = lm_file(folder)
    if trained is None or _has_weights(folder):
        return []
    try:
        text_encoder, codecs = companions(trained)
    except (CheckpointError, OSError):  # which is reported when the model is opened
        own = (folder / AUDIOCRAFT_CODEC).exists()
        text_encoder, codecs = TEXT_COMPANION, () if own else CODEC_COMPANIONS
    found = None if base is None else hub.find_local(base)
    if found is not None and _has_weights(found):  # what MusicGen's own have in them
        codecs = () if codecs == CODEC_COMPANIONS else codecs
        text = text and text_encoder != TEXT_COMPANION
    repositories = []
    if codecs and not any(map(hub.find_local, codecs)):
        repositories.append(codecs[0])
    if text and hub.find_local(text_encoder) is None:
        repositories.append(text_encoder)
    return repositories


def _has_weights(folder: Path) -> bool:
    weights = (SAFETENSORS, TORCH, f"{SAFETENSORS}.index.json", f"{TORCH}.index.json")
    return (folder / CONFIG).exists() and any((folder / name).exists() for name in weights)
