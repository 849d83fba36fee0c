"""Measuring audio, in a process of its own: tempo and beats, and how far they lie from a grid."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ... import audio, beats
from ...audio import Audio
from ...bars import Grid
from ...channel import Message
from ...errors import AudioError
from .task_loop import TaskChannel


def find_beats(task: Message, channel: TaskChannel) -> Message:
    """Find tempo, metre, downbeat and beats of music of one tempo.

    Args:
        task: `path` of a WAV; `start` and `seconds`, the part of it that is searched;
            `beats_per_bar` and `bpm`, each None where it is to be found.
        channel: of the task.

    Returns:
        `{bpm, beats_per_bar, downbeat, beats, counts}`: places in seconds from the start of the
        file, the downbeat less than a bar; no beats where the tempo was known.

    Raises:
        AudioError: no beats are found.
        RequestError: the tracker cannot run, or the metre cannot be searched for.
    """
    start, metre, bpm = task["start"], task["beats_per_bar"], task["bpm"]
    sound = audio.read(task["path"], start + task["seconds"])
    sound = replace(sound, samples=sound.samples[round(start * sound.sample_rate) :])
    found: dict[str, Any] = {"beats": [], "counts": []}
    if bpm is not None:
        grid = beats.find_downbeat(sound, Grid(bpm, 4.0 if metre is None else metre))
    elif metre is not None and (metre != int(metre) or metre < 2):
        grid = beats.find_grid(sound, metre)  # which says why it cannot
    else:
        tracked = beats.track(sound, (3, 4) if metre is None else (int(metre),))
        grid = beats.grid_of(tracked)
        found["beats"] = [round(float(each) + start, 3) for each in tracked.times]
        found["counts"] = [int(each) for each in tracked.counts]
    downbeat = (start + grid.downbeat) % grid.bar_seconds
    return found | {
        "bpm": grid.bpm,
        "beats_per_bar": grid.beats_per_bar,
        "downbeat": round(downbeat, 4),
    }


def beat_offsets(task: Message, channel: TaskChannel) -> Message:
    """Find out how far the beats of a take lie from its grid.

    Args:
        task: `path` of the take, its `grid` as an object, and `join`, the first sample of what is
            new.
        channel: of the task.

    Returns:
        `{"offsets": ...}`, see `segue.beats.Offsets`; None where no beats are found.

    Raises:
        RequestError: the tracker cannot run.
    """
    sound: Audio = audio.read(task["path"])
    try:
        found = beats.offsets(sound, Grid(**task["grid"]), task["join"])
    except AudioError:  # nothing to hear
        found = None
    return {"offsets": None if found is None else asdict(found)}
