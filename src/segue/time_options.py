"""The options that speak of time: seconds, minutes and seconds, beats and bars."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Any

from . import beats
from .audio import Audio
from .bars import SNAPS, Grid
from .errors import RequestError
from .part_options import OfPart
from .request import Request

AUTO = "auto"

_HEARD_SECONDS = 60.0
"""How much audio is searched for beats, at the end where the prompt lies."""

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d*)?)", re.ASCII)


def seconds(text: str) -> float:
    """Read a length or a place in time, as an option's `type`.

    Args:
        text: seconds (`65`, `65.25`), or hours, minutes and seconds (`1:05`, `1:05.250`,
            `1:00:05`).

    Raises:
        argparse.ArgumentTypeError: it is none of these.
    """
    if match := _CLOCK.fullmatch(text.strip()):
        hours, minutes, rest = match.groups()
        if hours is None or int(minutes) < 60:
            return 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(rest)
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write seconds (65.25), or minutes and seconds (1:05.250)"
        ) from None


def number_or_auto(text: str) -> float | str:
    """Read a tempo, as an option's `type`: a number, or `auto`.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    return _or_auto(text, float, "a number of beats a minute")


def seconds_or_auto(text: str) -> float | str:
    """Read a place in time, as an option's `type`: as `seconds` does, or `auto`.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    return _or_auto(text, seconds, "a time")


def _or_auto(text: str, read: Any, what: str) -> float | str:
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        value: float = read(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {what} nor {AUTO!r}") from None
    return value


def add_length_options(parser: argparse.ArgumentParser) -> None:
    """Add `--seconds` and `--bars`, the length of what is new; see `length_of`."""
    parser.add_argument(
        "--seconds",
        metavar="TIME",
        action=OfPart,
        type=seconds,
        help="length of the new part alone, in the place of --output-seconds",
    )
    parser.add_argument(
        "--bars",
        action=OfPart,
        type=float,
        help="length of the new part in bars; 0.5 is half a bar",
    )


def length_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the attributes of a `Request` that say how long the result is.

    Raises:
        RequestError: two options say it.
    """
    given = vars(options)
    names = ("output_seconds", "seconds", "bars")
    found = {name: given[name] for name in names if given.get(name) is not None}
    if len(found) > 1:
        typed = " and ".join(f"--{name.replace('_', '-')}" for name in found)
        raise RequestError(f"{typed} both say how long it gets; drop one")
    return found


def add_bar_options(parser: argparse.ArgumentParser, prompt: bool = True) -> None:
    """Add `--bpm`, `--beats-per-bar`, `--snap` and, with a prompt, where its bars lie.

    Args:
        parser: of the command.
        prompt: whether there is a prompt.
    """
    found = ", or 'auto': found in the audio (pip install 'segue[beats]')" if prompt else ""
    bars = parser.add_argument_group("beats and bars")
    bars.add_argument(
        "--bpm",
        type=number_or_auto if prompt else float,
        help=f"the tempo; lengths become whole bars, so that the result loops{found}",
    )
    bars.add_argument(
        "--beats-per-bar",
        type=float,
        metavar="BEATS",
        help=f"3.5 is 7/8 (default: {Request.beats_per_bar:g}{', or what is found' * prompt})",
    )
    bars.add_argument(
        "--snap",
        choices=SNAPS,
        default=Request.snap,
        help="what lengths in seconds are rounded to"
        + (", and where the prompt begins and ends" if prompt else ""),
    )
    bars.add_argument(
        "--loop-crossfade",
        action="store_true",
        help="fade the last 10 ms into what would come before the loop's first sample",
    )
    if prompt:
        bars.add_argument(
            "--prompt-bars",
            type=float,
            metavar="BARS",
            help="length of the prompt, in the place of --prompt-seconds",
        )
        bars.add_argument(
            "--downbeat",
            type=seconds_or_auto,
            metavar="TIME",
            help="where in the file a bar begins, any of them, or 'auto' (default: at its start, "
            "or found where the tempo is)",
        )


def bar_options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the attributes of a `Request` that `add_bar_options` gives; `auto` as it was typed.

    Raises:
        RequestError: what is given in bars needs a tempo.
    """
    given = vars(options)
    if given.get("prompt_bars") is not None and given.get("prompt_seconds") is not None:
        raise RequestError("--prompt-seconds and --prompt-bars are two lengths; drop one")
    if given.get("bpm") is None:
        for name in ("bars", "prompt_bars", "downbeat"):
            if given.get(name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise RequestError(f"{option} needs a tempo: add --bpm 93, or --bpm auto")
    names = ("bpm", "beats_per_bar", "snap", "loop_crossfade", "prompt_bars", "downbeat")
    return {name: given[name] for name in names if given.get(name) is not None}


def with_found_bars(sound: Audio, given: dict[str, Any], from_end: bool) -> Audio:
    """Find in the audio what is `auto` in options of `bar_options_of`, and put it there.

    Args:
        sound: what is continued.
        given: the options; changed.
        from_end: whether the prompt lies at its end.

    Returns:
        The audio, with a note that says what was found.

    Raises:
        AudioError: no beats are found.
        RequestError: see `segue.beats.find_grid`.
    """
    bpm, downbeat = given.get("bpm"), given.get("downbeat")
    if AUTO not in (bpm, downbeat):
        return sound
    heard = round(_HEARD_SECONDS * sound.sample_rate)
    before = max(0, len(sound.samples) - heard) if from_end else 0
    part = replace(sound, samples=sound.samples[before : before + heard])
    metre = given.get("beats_per_bar")
    if bpm == AUTO:
        grid = beats.find_grid(part, metre)
    else:
        grid = Grid(given["bpm"], Request.beats_per_bar if metre is None else metre)
        grid = beats.find_downbeat(part, grid)
    found = (before / sound.sample_rate + grid.downbeat) % grid.bar_seconds
    given |= {"bpm": grid.bpm, "beats_per_bar": grid.beats_per_bar}
    if downbeat in (None, AUTO):
        given["downbeat"] = found
    note = (
        f"found {grid.bpm:g} BPM, {grid.beats_per_bar:g} beats a bar, a bar at {found:.3f} s; "
        "type --bpm, --beats-per-bar or --downbeat where that is not so"
    )
    return replace(sound, notes=(*sound.notes, note))
