"""The adapters that requests may name: those in the owner's folder, by name, never by a path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..checkpoints.adapters import MAX_SCALE, AdapterChoice
from ..checkpoints.addresses import folders_at
from ..checkpoints.files import ADAPTER, ADAPTER_CONFIG
from ..errors import RequestError

FOLDER = "G4L_ADAPTERS"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)


def adapters_in(folder: Path | str) -> dict[str, Path | str]:
    """Find the adapters that requests may name, and where they lie.

    Args:
        folder: holds a folder for each, in PEFT's layout; it need not be there.  An address of
            shared storage is listed once in a process.

    Raises:
        CheckpointError: an address cannot be listed.
    """
    if isinstance(folder, str):
        stored = {each.name: each.address for each in folders_at(folder, ADAPTER)}
        return {name: address for name, address in stored.items() if _NAME.fullmatch(name)}
    try:
        return {
            path.name: path
            for path in sorted(folder.iterdir())
            if _NAME.fullmatch(path.name) and (path / ADAPTER_CONFIG).is_file()
        }
    except OSError:
        return {}


def chosen(typed: Sequence[str], known: Iterable[str]) -> tuple[AdapterChoice, ...]:
    """Choose the adapters of a request.

    Args:
        typed: `NAME`, or `NAME:SCALE`.
        known: the names that there are.

    Raises:
        RequestError: there is no adapter of that name, or its scale is out of range.
    """
    return tuple(_chosen(each.strip(), tuple(known)) for each in typed)


def _chosen(typed: str, known: Sequence[str]) -> AdapterChoice:
    name, colon, number = typed.rpartition(":")
    if not colon or typed in known:
        name, number = typed, "1"
    if name not in known:
        shown = f" {name}" if _NAME.fullmatch(name) else " of that name"
        have = f"; there are {', '.join(known)}" if known else ": this service has none"
        raise RequestError(f"there is no adapter{shown}{have}")
    try:
        scale = float(number)
    except ValueError:
        scale = float("nan")
    if not abs(scale) <= MAX_SCALE:
        raise RequestError(
            f"the scale of adapter {name} must lie between -{MAX_SCALE:g} and {MAX_SCALE:g}"
        )
    return AdapterChoice(name, scale)


def located(
    adapters: Sequence[AdapterChoice], known: Mapping[str, Path | str]
) -> tuple[AdapterChoice, ...]:
    """The same adapters by their folders or addresses, for the worker.

    Raises:
        RequestError: one is not there any more.
    """
    for each in adapters:
        if each.name not in known:
            raise RequestError(f"the adapter {each.name} is not there any more")
    return tuple(replace(each, name=str(known[each.name])) for each in adapters)
