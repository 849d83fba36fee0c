"""What people name that is no checkpoint, and what to do instead: one line each."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTERS = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
_TRAINING = re.compile(r"checkpoint(_\w+)?\.th")  # AudioCraft's solvers: checkpoint_12.th too

TRAINING_CHECKPOINT = (
    "this is a training checkpoint of AudioCraft, with optimizer and solver in it: export it with "
    "audiocraft.utils.export.export_lm(FILE, 'state_dict.bin'), and name the folder of that"
)

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")

_HUB = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://|git@(?:huggingface\.co|hf\.co):)"
    r"(?:models/)?(.*)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|git@)", re.IGNORECASE)
_CACHED = re.compile(r"models--(.+)")


def file_of_another_kind(head: bytes) -> str | None:
    """What stands in a file's place, by its first bytes: a Git LFS pointer, or a web page."""
    if head.startswith(_POINTER):
        return (
            "this is a Git LFS pointer, which stands for the file: run `git lfs pull` in its "
            "folder, or let segue download the repository by its name"
        )
    if head.lstrip().lower().startswith(_PAGES):
        return "this is a web page, saved in the file's place: download the file itself"
    return None


def name_of_another_kind(name: str) -> str | None:
    """What `name` is, if it is a web address or a folder of the cache without its path."""
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


def path_of_another_kind(path: Path) -> str:
    """What to do about a `path` that is a file, where a folder is wanted."""
    if _TRAINING.fullmatch(path.name):
        return f"{path}: {TRAINING_CHECKPOINT}"
    return f"{str(path)!r} is not a folder; name the one that holds the checkpoint"


def names_of_another_kind(names: Collection[str]) -> str | None:
    """What a folder or a repository with files of these `names` is, if it cannot be a model."""
    if any(name in names for name in _ADAPTERS):
        return (
            "this is a PEFT adapter, which changes another model: load it with peft, "
            "merge_and_unload() it into that model, and name the folder that save_pretrained() "
            "writes"
        )
    return None


def folder_of_another_kind(folder: Path, names: Collection[str]) -> str | None:
    """What a `folder` that holds no model is, by the `names` in it."""
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


def adapted_model(folder: Path) -> str:
    """Of which model a PEFT adapter is, for a message."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
        return f" (its model is {quoted(config['base_model_name_or_path'])})"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def quoted(text: object) -> str:
    """Text out of a file, fit for one line."""
    return repr(str(text)[:80])


def _repository(cached: str) -> str:
    return cached.replace("--", "/", 1)
