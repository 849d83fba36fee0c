"""What commands write: where takes go, found out before anything is loaded, and reports."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from . import atomic, audio
from .audio import Audio
from .errors import RequestError
from .uploads import store_content

_CONTINUED = re.compile(
    r"(?<=.)(-continued|-[\d.]+bars?-[\d.]+bpm-seed\d+)(-(whole|new|loop))?(-\d+)?$"
)
"""What is behind the name of a prompt that was continued before."""

_LONGEST_NUMBER = len("-999-99")
"""Room that a default name leaves, for its own number and a variation's."""

_TEXT_BYTES = 40
"""Of a take's text in the name of its file, at most."""


def paths_for(
    wanted: Path,
    sound: Audio,
    variations: int,
    prompt: Path | None = None,
    texts: Sequence[str] = (),
) -> list[Path]:
    """Return the file of each take, checked, so that no wait is for nothing.

    Args:
        wanted: the name for one take; several are numbered.
        sound: something like what will be written.
        variations: how many takes.
        prompt: a file that must stay, if any.
        texts: of each take where they differ; names tell them, as far as there is room.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the sound.
        OutputError: a file cannot be written there.
        RequestError: a file is the prompt itself.
    """
    audio.check_output(wanted, sound)
    return checked(_numbered(wanted, variations, texts), sound, prompt)


def checked(paths: list[Path], sound: Audio, prompt: Path | None = None) -> list[Path]:
    """Return `paths`, where each can be written; see `paths_for`.

    Raises:
        AudioError: see there.
        OutputError: see there.
        RequestError: see there.
    """
    for path in paths:
        audio.check_output(path, sound)
        atomic.check_writable(path)
        if prompt is not None and _same_file(path, prompt):
            raise RequestError(f"{path}: the prompt itself; name another output")
    return paths


def of_cuts(
    wanted: Path, variations: int, cuts: Sequence[str], texts: Sequence[str] = ()
) -> list[Path]:
    """Return the file of each cut of each take: numbered, and named after the cut if not all alike.

    Args:
        wanted: the name for one cut of one take.
        variations: how many takes.
        cuts: what is written of each, in this order.
        texts: of each take where they differ; see `paths_for`.
    """
    return [
        path if len(cuts) == 1 else path.with_stem(f"{path.stem}-{cut}")
        for path in _numbered(wanted, variations, texts)
        for cut in cuts
    ]


def telling(
    begin: str, bars: Mapping[str, float], bpm: float, seeds: Sequence[int], ending: str
) -> list[Path]:
    """Return names that say what is in the files: `song-6bars-93bpm-seed7.wav`, here.

    Where one of them exists, all have the next free number behind them.

    Args:
        begin: of the names; it is shortened where the disk could not hold it.
        bars: of each cut, by its name.
        bpm: the tempo.
        seeds: of the takes.
        ending: of the names, such as `.wav`.
    """
    room = atomic.name_bytes(Path()) - len("-9999.99bars-999.999bpm-seed4294967295-whole")
    begin = atomic.shortened(begin, room - _LONGEST_NUMBER - len(ending))
    for number in count(1):
        behind = "" if number == 1 else f"-{number}"
        paths = [
            Path(f"{told(begin, bars[cut], bpm, seed, cut)}{behind}{ending}")
            for seed in seeds
            for cut in bars
        ]
        if not any(map(os.path.lexists, paths)):
            return paths
    raise AssertionError  # numbers do not end


def told(begin: str, bars: float, bpm: float, seed: int, cut: str) -> str:
    """Return a name that says what is in a file, without its ending; see `telling`."""
    length = round(bars, 2)
    return (
        f"{begin}-{length:.6g}bar{'s' * (length != 1)}-{bpm:.6g}bpm-seed{seed}"
        f"{'' if cut == 'whole' else f'-{cut}'}"
    )


def begin_of(prompt: Path) -> str:
    """Return how the names of what continues a prompt begin; empty for standard input."""
    # What was continued before is counted on, and not continued-continued.
    return "" if str(prompt) == "-" else _CONTINUED.sub("", prompt.stem)


def default(
    prompt: Path,
    variations: int,
    cuts: Sequence[str] = ("whole",),
    ending: str = ".wav",
    texts: Sequence[str] = (),
) -> tuple[Path, str | None]:
    """Return `PROMPT-continued.wav` in the working folder, or its next free number.

    The name of the prompt is shortened where the disk could not hold a longer one; of standard
    input, `-`, it is `continued.wav`.

    Returns:
        What to hand to `paths_for`, and a note for the user where it is not the plain name.
    """
    room = atomic.name_bytes(Path()) - len("-continued") - len(ending) - _LONGEST_NUMBER
    begin = atomic.shortened(begin_of(prompt), room)
    return next_free(
        Path(f"{begin}{'-' if begin else ''}continued{ending}"), variations, cuts, texts
    )


def next_free(
    plain: Path,
    variations: int,
    cuts: Sequence[str] = ("whole",),
    texts: Sequence[str] = (),
) -> tuple[Path, str | None]:
    """Return the file `plain`, or with the next number at which no take exists.

    The arguments are those of `paths_for`.

    Returns:
        What to hand to `paths_for`, and a note for the user where it is not the plain name.
    """
    taken = _taken(plain, variations, cuts, texts)
    if taken is None:
        return plain, None
    for number in count(2):
        path = plain.with_stem(f"{plain.stem}-{number}")
        if _taken(path, variations, cuts, texts) is None:
            break
    return path, f"{taken} is there already, and stays as it is"


def write_json(path: Path | str, content: Any) -> None:
    """Write a report as JSON, whole or not at all.

    Args:
        path: the file, or its address in shared storage.
        content: of it.

    Raises:
        OutputError: the folder cannot be written to, the disk is full, or the store refuses.
    """
    if isinstance(path, str):
        store_content((json.dumps(content, indent=2) + "\n").encode(), path)
        return
    with atomic.writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _same_file(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _taken(path: Path, variations: int, cuts: Sequence[str], texts: Sequence[str]) -> Path | None:
    """The first of the files that exists."""
    files = of_cuts(path, variations, cuts, texts)
    return next((path for path in files if os.path.lexists(path)), None)


def _numbered(path: Path, variations: int, texts: Sequence[str]) -> list[Path]:
    if variations == 1:
        return [path]
    room = atomic.name_bytes(path.parent) - len(os.fsencode(path.name)) - len("-99--whole")
    ends = [f"-{n}" for n in range(1, variations + 1)]
    for n, text in enumerate(texts):
        words = "-".join(re.findall(r"\w+", text.lower())) or "no-text"
        words = atomic.shortened(words, max(0, min(room, _TEXT_BYTES))).rstrip("-")
        ends[n] += f"-{words}" if words else ""
    return [path.with_stem(f"{path.stem}{end}") for end in ends]
