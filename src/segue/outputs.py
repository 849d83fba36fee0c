"""What commands write: where takes go, found out before anything is loaded, and reports."""

from __future__ import annotations

import json
import os
import re
from itertools import count
from pathlib import Path
from typing import Any

from . import atomic, audio
from .audio import Audio
from .errors import RequestError

_CONTINUED = re.compile(r"(?<=.)-continued(-\d+)?$")

_LONGEST_NUMBER = len("-999-99")
"""Room that a default name leaves, for its own number and a variation's."""


def paths_for(
    wanted: Path, sound: Audio, variations: int, prompt: Path | None = None
) -> list[Path]:
    """Return the file of each take, checked, so that no wait is for nothing.

    Args:
        wanted: the name for one take; several are numbered.
        sound: something like what will be written.
        variations: how many takes.
        prompt: a file that must stay, if any.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the sound.
        OutputError: a file cannot be written there.
        RequestError: a file is the prompt itself.
    """
    audio.check_output(wanted, sound)
    paths = _numbered(wanted, variations)
    for path in paths:
        atomic.check_writable(path)
        if prompt is not None and _same_file(path, prompt):
            raise RequestError(f"{path}: the prompt itself; name another output")
    return paths


def default(prompt: Path, variations: int) -> tuple[Path, str | None]:
    """Return `PROMPT-continued.wav` in the working folder, or its next free number.

    The name of the prompt is shortened where the disk could not hold a longer one; of standard
    input, `-`, it is `continued.wav`.

    Returns:
        What to hand to `paths_for`, and a note for the user where it is not the plain name.
    """
    room = atomic.name_bytes(Path()) - len("-continued.wav") - _LONGEST_NUMBER
    stem = _CONTINUED.sub("", prompt.stem)  # what was continued before is counted on
    begin = "" if str(prompt) == "-" else f"{atomic.shortened(stem, room)}-"
    return next_free(Path(f"{begin}continued.wav"), variations)


def next_free(plain: Path, variations: int) -> tuple[Path, str | None]:
    """Return the file `plain`, or with the next number at which no take exists.

    Returns:
        What to hand to `paths_for`, and a note for the user where it is not the plain name.
    """
    taken = _taken(plain, variations)
    if taken is None:
        return plain, None
    for number in count(2):
        path = plain.with_stem(f"{plain.stem}-{number}")
        if _taken(path, variations) is None:
            break
    return path, f"{taken} is there already, and stays as it is"


def write_json(path: Path, content: Any) -> None:
    """Write a report as JSON, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    with atomic.writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _same_file(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _taken(path: Path, variations: int) -> Path | None:
    """The first of the files that exists."""
    return next((path for path in _numbered(path, variations) if os.path.lexists(path)), None)


def _numbered(path: Path, variations: int) -> list[Path]:
    if variations == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{n}") for n in range(1, variations + 1)]
