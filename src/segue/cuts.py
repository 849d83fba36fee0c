"""What of a take is written: the whole, what is new, or the loop; as what, and with which tags."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Literal

from .audio import Audio, Tags
from .bars import Grid
from .layout import Plan
from .result import Result, Take

Cut = Literal["whole", "new", "loop"]
CUTS: tuple[Cut, ...] = ("whole", "new", "loop")
FORMATS = ("wav", "flac", "mp3", "ogg")
BITS = (16, 24, 32)


def add_cut_options(parser: argparse.ArgumentParser) -> None:
    """Add `--only`, `--format` and `--bits`."""
    parser.add_argument(
        "--only",
        action="append",
        choices=CUTS,
        help="write the whole (the default), the new part alone, or the loop: prompt and new part, "
        "without what lies before them; may be repeated",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="of the file, where no -o says it (default: wav)"
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=BITS,
        help="of a sample, 32 being floats (default: those of the prompt)",
    )


def cuts_of(options: argparse.Namespace) -> list[Cut]:
    """Return what is written of each take, each once."""
    return list(dict.fromkeys(options.only or ["whole"]))


def audio_of(take: Take, result: Result, cut: Cut) -> Audio:
    """Return what is written of a take."""
    start = {"whole": 0, "new": result.join, "loop": result.loop}[cut]
    return replace(take.audio, samples=take.audio.samples[start:])


def tags_of(take: Take, result: Result, cut: Cut, title: str, model: str, text: str) -> Tags:
    """Return the tags of a file; see `audio_of`."""
    return tags_for(
        title,
        comment_for(model, take.seed, text),
        result.grid,
        len(audio_of(take, result, cut).samples),
        take.audio.sample_rate,
        cut != "whole" or result.loop == 0,
    )


def comment_for(model: str, seed: int, text: str) -> str:
    """Return what a file says of how it was made."""
    return f"made with segue by {model}, seed {seed}" + (f": {text}" if text else "")


def tags_for(
    title: str, comment: str, grid: Grid | None, samples: int, sample_rate: int, on_a_bar: bool
) -> Tags:
    """Return the tags of a file.

    Args:
        title: of the music.
        comment: see `comment_for`.
        grid: where its bars lie; None without a tempo.
        samples: of the file, per channel.
        sample_rate: in Hz.
        on_a_bar: whether it begins with a bar.
    """
    if grid is None:
        return Tags(title, comment)
    beats = samples / sample_rate / grid.beat_seconds
    whole = abs(beats - round(beats)) * grid.beat_seconds * sample_rate <= 1.5
    return Tags(title, comment, grid.bpm, grid.beats_per_bar, beats, whole and on_a_bar)


def bars_of(plan: Plan, cut: Cut, grid: Grid, sample_rate: int) -> float:
    """Return how many bars a file will have, before anything is played; see `audio_of`."""
    start = {"whole": plan.first, "new": plan.join, "loop": plan.loop}[cut]
    return ((plan.stop or 0) - start) / sample_rate / grid.bar_seconds
