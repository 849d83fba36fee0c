"""The files of a model that are not on this machine.

A fine-tune in AudioCraft's layout mostly brings the language model alone; see
`segue.checkpoints.opening`.
"""

from __future__ import annotations

from pathlib import Path

from ...checkpoints import hub
from ...checkpoints.files import AUDIOCRAFT_CODEC, AUDIOCRAFT_LM, CONFIG, SAFETENSORS, TORCH
from ...checkpoints.opening import CODEC_COMPANIONS, TEXT_COMPANION

_OWN_CODEC_BYTES = 1 << 20
"""MusicGen's own repositories have a file of the codec that only names another."""


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
    if not (folder / AUDIOCRAFT_LM).exists() or _has_weights(folder):
        return []
    found = None if base is None else hub.find_local(base)
    if found is not None and _has_weights(found):
        return []
    repositories = []
    if not _has_codec(folder) and not any(map(hub.find_local, CODEC_COMPANIONS)):
        repositories.append(CODEC_COMPANIONS[0])
    if text and hub.find_local(TEXT_COMPANION) is None:
        repositories.append(TEXT_COMPANION)
    return repositories


def _has_weights(folder: Path) -> bool:
    weights = (SAFETENSORS, TORCH, f"{SAFETENSORS}.index.json", f"{TORCH}.index.json")
    return (folder / CONFIG).exists() and any((folder / name).exists() for name in weights)


def _has_codec(folder: Path) -> bool:
    codec = folder / AUDIOCRAFT_CODEC
    return codec.exists() and codec.stat().st_size > _OWN_CODEC_BYTES
