"""Explain what is named or stored in place of a checkpoint, and what to do: one line each."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from .config import STYLE
from .files import ADAPTER_CONFIG, ADAPTER_SAFETENSORS, ADAPTER_TORCH

_ADAPTERS = (ADAPTER_CONFIG, ADAPTER_SAFETENSORS, ADAPTER_TORCH)
_TRAINING = re.compile(r"checkpoint(_\w+)?\.th")  # AudioCraft's solvers: checkpoint_12.th too

TRAINING_CHECKPOINT = (
    "this is a training checkpoint of AudioCraft: name the folder that it lies in, as checkpoint.th"
)

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")

_NOT_RUN = {
    r"facebook/musicgen-style": f"a MusicGen that is conditioned by {STYLE}",
    r"facebook/(audio-)?magnet-.+": "MAGNeT, whose masked model fills in tokens in any order; "
    "segue continues them one after the other, as MusicGen and facebook/audiogen-medium do",
    r"facebook/(jasco|melodyflow)-.+": "a flow-matching model over EnCodec's latents, not a "
    "language model over its codes; segue runs MusicGen and AudioGen",
}
"""Repositories of AudioCraft's other families, and what they are."""

_HUB = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://|git@(?:huggingface\.co|hf\.co):)"
    r"(?:models/)?(.*)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|git@)", re.IGNORECASE)
_CACHED = re.compile(r"models--(.+)")


def diagnose_head(head: bytes) -> str | None:
    """Explain what a file is by its first bytes, if it is a Git LFS pointer or a web page."""
    if head.startswith(_POINTER):
        return (
            "this is a Git LFS pointer, which stands for the file: run `git lfs pull` in its "
            "folder, or let segue download the repository by its name"
        )
    if head.lstrip().lower().startswith(_PAGES):
        return "this is a web page, saved in the file's place: download the file itself"
    return None


def diagnose_name(name: str) -> str | None:
    """Explain what `name` is, if it is no repository of a model that segue runs.

    That is a web address, the name of a folder of the cache, or a family known to be another.
    """
    for pattern, family in _NOT_RUN.items():
        if re.fullmatch(pattern, name):
            return f"{name} is {family}"
    if (hub := _HUB.fullmatch(name)) is not None:
        place = re.split(r"[?#@]|/(?:tree|blob|resolve|raw|commits?|discussions)/", hub[1])[0]
        parts = [part for part in place.split("/") if part]
        if parts and parts[0] in ("datasets", "spaces", "api", "collections"):
            return f"{name!r} is an address of the hub, and not one of a model"
        repository = "/".join(parts[:2]).removesuffix(".git")
        if repository:
            return f"{name!r} is an address: name the repository, {repository!r}"
    if _ADDRESS.match(name):
        return (
            f"{name!r} is an address: download it and name the folder, or name a repository of the "
            "Hugging Face hub such as 'facebook/musicgen-small'"
        )
    if (cached := _CACHED.fullmatch(name)) is not None:
        return f"{name!r} is how the cache names a repository: name {_repository(cached[1])!r}"
    return None


def diagnose_path(path: Path) -> str:
    """Explain what to do about a `path` that is a file, where a folder is expected."""
    if _TRAINING.fullmatch(path.name):
        return f"{path}: {TRAINING_CHECKPOINT}"
    return f"{str(path)!r} is not a folder; name the one that holds the checkpoint"


def diagnose_file_names(names: Collection[str]) -> str | None:
    """Explain what a folder or a repository with these files is, if it is a PEFT adapter."""
    if any(name in names for name in _ADAPTERS):
        return (
            "this is a PEFT adapter, which changes another model: name that model, and this with "
            "--adapter; or write them as one with `segue merge`"
        )
    return None


def diagnose_folder(folder: Path, names: Collection[str]) -> str | None:
    """Explain what a `folder` without a model is, by the `names` in it; None if unknown."""
    if any(_TRAINING.fullmatch(name) for name in names):
        return TRAINING_CHECKPOINT
    if "snapshots" in names and (cached := _CACHED.fullmatch(folder.resolve().name)):
        repository = _repository(cached[1])
        return (
            f"this is where the cache keeps the repository {repository}: name {repository!r}, or "
            "one of the folders in snapshots/"
        )
    if any(_CACHED.fullmatch(name) for name in names):
        return "this is the Hugging Face cache: name a repository in it; `segue models` lists them"
    return None


def model_of_adapter(folder: Path) -> str:
    """Name the model that a PEFT adapter belongs to, in brackets; empty if it is not known."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
        named = config["base_model_name_or_path"]
        return "" if named is None else f" (its model is {quoted(named)})"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def quoted(text: object) -> str:
    """Quote text out of a file, shortened to fit into one line."""
    return repr(str(text)[:80])


def _repository(cached: str) -> str:
    return cached.replace("--", "/", 1)
