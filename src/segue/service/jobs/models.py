"""The models that a request may name: the catalogue, the local ones, and the built-in one.

Nothing else: a name from a client never becomes a path or an address by itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoints import hub
from ...checkpoints.abilities import Abilities, abilities_of, known_abilities
from ...checkpoints.addresses import StoredFolder, folders_at
from ...checkpoints.catalogue import CATALOGUE, DEFAULT_DESCRIPTIONS
from ...checkpoints.files import AUDIOCRAFT_LM, CONFIG, WHOLE_MODEL
from ...checkpoints.hub import BUILT_IN
from ..exceptions import UnknownModelError
from .missing_files import missing_repositories

SIZES = ("small", "medium", "large")
_WIDEST = {"small": 1024, "medium": 1536}
_LOCAL = "local/"
_NUMBERED = re.compile(r"(.+)-(\d+)")


@dataclass(frozen=True)
class ListedModel:
    """A model.

    Attributes:
        path: its name in requests.
        name: what people see.
        size: one of `SIZES`.
        source: its name for `hub.locate`: the owner's folder or address, or the same as `path`.
        base: the base of a fine-tune.
        missing: its files that are not on this machine; empty if it can run without the network.
        bytes: of the whole download, about; None if that is not known.
    """

    path: str
    name: str
    size: str
    source: str
    base: str | None
    missing: tuple[str, ...]
    bytes: int | None = None

    @property
    def description(self) -> str:
        """The description that it gets where a request has none."""
        return DEFAULT_DESCRIPTIONS.get(self.path, "")

    def stored_bytes(self) -> int:
        """Bytes of its files on this machine: about what it takes in memory, not quantized."""
        folder = hub.find_local(self.source)
        if folder is None:
            return 0
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

    @property
    def abilities(self) -> Abilities | None:
        """What it takes and makes; None where that is not known before it is here."""
        known = known_abilities(self.path)
        if known is None and not self.missing:
            known = abilities_of(self.source, self.base)
        return known


class ModelList:
    """The list of models; every call looks at the disk.

    Args:
        folders: of the owner: checkpoints, or folders of checkpoints; paths, or addresses of shared
            storage, which are listed once in a process.

    Raises:
        CheckpointError: an address cannot be listed.
    """

    def __init__(self, folders: Iterable[Path | str] = ()) -> None:
        self._folders = [folder for folder in folders if isinstance(folder, Path)]
        self._stored = [
            stored
            for address in folders
            if isinstance(address, str)
            for stored in folders_at(address, WHOLE_MODEL)
            if AUDIOCRAFT_LM in stored.bytes or _width(stored.config) is not None
        ]

    def all(self) -> list[ListedModel]:
        """List every model: the owner's, the built-in one, the catalogue, the cache."""
        found = [*self._own()]
        local = {model.name: model for model in hub.local_models()}
        if local.pop(BUILT_IN, None) is not None:
            found.append(ListedModel(BUILT_IN, BUILT_IN, "small", BUILT_IN, None, ()))
        for size, family in CATALOGUE.items():
            for path in family:
                base = None if path == family.base else family.base
                missing = tuple(missing_repositories(path, base))
                if missing == (path,) and (copy := local.get(path)) is not None:
                    missing = copy.missing
                name = path.rpartition("/")[2]
                size_class, bytes_ = size.split()[-1], family.approximate_bytes(path)
                found.append(ListedModel(path, name, size_class, path, base, missing, bytes_))
                local.pop(path, None)
        for path, copy in local.items():
            missing = copy.missing or tuple(missing_repositories(path))
            name = path.rpartition("/")[2]
            found.append(ListedModel(path, name, _size(copy.path), path, None, missing))
        return found

    def _own(self) -> list[ListedModel]:
        found: dict[str, ListedModel] = {}
        for folder in self._folders:
            inside = sorted(p for p in _subfolders(folder) if _is_checkpoint(p))
            for path in [folder] if _is_checkpoint(folder) else inside:
                name = path.resolve().name
                listed = f"{_LOCAL}{name}"
                if listed not in found:  # the folder that was named first
                    missing = tuple(missing_repositories(str(path)))
                    found[listed] = ListedModel(listed, name, _size(path), str(path), None, missing)
        for stored in self._stored:
            listed = f"{_LOCAL}{stored.name}"
            if listed not in found:
                missing = tuple(missing_repositories(stored.address))
                found[listed] = ListedModel(
                    *(listed, stored.name, _size_of_stored(stored), stored.address, None, missing),
                    bytes=sum(stored.bytes.values()),
                )
        return list(found.values())

    def find(self, name: str) -> ListedModel:
        """Find a model by its path, or by its name where only one has it.

        Raises:
            UnknownModelError: there is none.
        """
        models = self.all()
        for model in models:
            if model.path == name:
                return model
        named = [model for model in models if model.name == name]
        if len(named) == 1:
            return named[0]
        shown = name if len(name) <= 80 and name.isprintable() else "of that name"
        raise UnknownModelError(
            f"there is no model {shown} here; choose one of the list, or start segue serve with "
            "--models and the folder that holds it"
        )


def grouped(models: Iterable[ListedModel]) -> dict[str, list[dict[str, Any]]]:
    """The plugin's list: by size, checkpoints `name-N` of one family under `name`.

    A checkpoint with an epoch is in a group even if it is the only one: the plugin shows the epoch
    of what is in a group, and only of that.
    """
    listed: dict[str, list[dict[str, Any]]] = {size: [] for size in SIZES}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model in models:
        entry: dict[str, Any] = {"name": model.name, "path": model.path}
        match = _NUMBERED.fullmatch(model.name)
        if match is None:
            listed[model.size].append(entry | {"type": "single"})
            continue
        owner = model.path.removesuffix(model.name)
        key = (model.size, owner + match[1])
        if key not in groups:
            groups[key] = []
            group = {"name": match[1], "type": "group", "checkpoints": groups[key]}
            listed[model.size].append(group)
        groups[key].append(entry | {"epoch": int(match[2])})
    for checkpoints in groups.values():
        checkpoints.sort(key=lambda checkpoint: checkpoint["epoch"])
    return listed


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:  # a disk that is not plugged in
        return []


def _is_checkpoint(folder: Path) -> bool:
    # Not Path's own, which raises where the folder is closed to us.
    has_lm = os.path.isfile(folder / AUDIOCRAFT_LM)  # noqa: PTH113
    return has_lm or _hidden_size(folder) is not None


def _hidden_size(folder: Path) -> int | None:
    """Width of the language model, where there is a `config.json`."""
    try:
        return _width((folder / CONFIG).read_bytes())
    except OSError:
        return None


def _width(config: bytes) -> int | None:
    try:
        return int(json.loads(config)["decoder"]["hidden_size"])
    except (ValueError, KeyError, TypeError):
        return None


def _size(folder: Path) -> str:
    try:
        weights = (folder / AUDIOCRAFT_LM).stat().st_size
    except OSError:
        weights = 0
    return _size_class(_hidden_size(folder), folder.name, weights)


def _size_of_stored(stored: StoredFolder) -> str:
    return _size_class(_width(stored.config), stored.name, stored.bytes.get(AUDIOCRAFT_LM, 0))


def _size_class(width: int | None, name: str, weights: int) -> str:
    """One of `SIZES`, by the width of the language model, a name, or the bytes of its weights."""
    if width is not None:
        return next((size for size, widest in _WIDEST.items() if width <= widest), "large")
    # A fine-tune without a config.json, mostly in float16.
    named = next((size for size in SIZES if size in name.lower()), None)
    if named is not None:
        return named
    return "small" if weights < 2e9 else "medium" if weights < 5e9 else "large"
