"""Beats and bars: where they lie, and how a request is laid out on them.

Pure functions of numbers.  Positions are computed in seconds and rounded once, to the nearest
sample, so that nothing drifts however many bars there are: 4 bars at 93 BPM are 10.3226 s, which at
44.1 kHz are 455,226 samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .errors import AudioError, RequestError

MIN_BPM, MAX_BPM = 20.0, 999.0
"""What sequencers count; beyond them a number is a slip of the hand."""

MAX_BEATS_PER_BAR = 64.0
MAX_BARS = 10_000.0

Snap = Literal["off", "beat", "bar"]
SNAPS: tuple[Snap, ...] = ("off", "beat", "bar")

_TOLERANCE_SECONDS = 0.001
"""How far before a bar's end audio may end and still be the whole bar: a file of four bars has a
whole number of samples, and some programs leave out the last."""


@dataclass(frozen=True)
class Grid:
    """Where beats and bars lie.

    Attributes:
        bpm: beats a minute, 20 to 999.
        beats_per_bar: 3.5 is 7/8, counted in quarters.
        downbeat: seconds from the start of the audio to where a bar begins, any of them.
    """

    bpm: float
    beats_per_bar: float = 4.0
    downbeat: float = 0.0

    @property
    def beat_seconds(self) -> float:
        """The length of a beat."""
        return 60.0 / self.bpm

    @property
    def bar_seconds(self) -> float:
        """The length of a bar."""
        return self.beats_per_bar * self.beat_seconds

    def unit_seconds(self, snap: Snap) -> float | None:
        """The length of what is snapped to; None for nothing."""
        return {"off": None, "beat": self.beat_seconds, "bar": self.bar_seconds}[snap]


@dataclass(frozen=True)
class Timing:
    """The part of a request that speaks of beats and bars; see `Request` for what each means."""

    grid: Grid
    bars: float | None = None
    prompt_bars: float | None = None
    snap: Snap = "bar"


@dataclass(frozen=True)
class Span:
    """A request laid out over audio, in samples of that audio.

    Attributes:
        first: where the result begins.
        start: where the prompt begins; the loop, too: from here to the end it is whole bars.
        join: where the prompt ends and the continuation starts.
        stop: where the result ends.
        seconds: from `start` to there, before it was rounded.
        notes: what the user should know, one line each.
    """

    first: int
    start: int
    join: int
    stop: int
    seconds: float
    notes: tuple[str, ...] = ()


def check_timing(
    *,
    bpm: float | None,
    beats_per_bar: float,
    downbeat: float,
    bars: float | None,
    prompt_bars: float | None,
    snap: str,
) -> None:
    """Check the options of a request that speak of beats and bars.

    Raises:
        RequestError: one is out of range, or the tempo is missing.
    """

    def demand(holds: bool, line: str) -> None:
        if not holds:
            raise RequestError(line)

    demand(
        bpm is None or MIN_BPM <= bpm <= MAX_BPM,
        f"bpm must lie between {MIN_BPM:g} and {MAX_BPM:g}, not {bpm}",
    )
    demand(
        0 < beats_per_bar <= MAX_BEATS_PER_BAR,
        f"beats-per-bar must be more than 0 and at most {MAX_BEATS_PER_BAR:g}, not {beats_per_bar}",
    )
    demand(0 <= downbeat < math.inf, f"downbeat must be 0 s or more, not {downbeat}")
    demand(snap in SNAPS, f"snap is one of {', '.join(SNAPS)}")
    for name, count in (("bars", bars), ("prompt-bars", prompt_bars)):
        demand(
            count is None or 0 < count <= MAX_BARS,
            f"{name} must be more than 0 and at most {MAX_BARS:g}, not {count}",
        )
        demand(count is None or bpm is not None, f"{name} needs a tempo: give the bpm, too")


def lay_out(
    samples: int,
    sample_rate: int,
    timing: Timing,
    *,
    prompt_seconds: float,
    output_seconds: float,
    seconds: float | None,
    prompt_from: str,
) -> Span:
    """Lay a request out on the grid, over audio of `samples` samples per channel.

    Prompt and continuation together are as many samples as their bars are long, rounded once.  What
    is given in bars is exactly that; what is given in seconds becomes the nearest number of whole
    beats or bars, unless nothing snaps.

    Args:
        samples: length of the audio, in samples per channel; 0 where there is no prompt.
        sample_rate: of the audio, in Hz.
        timing: the grid, and what is given in bars.
        prompt_seconds: length of the prompt where it is not given in bars.
        output_seconds: length of prompt and continuation where neither is given otherwise.
        seconds: length of the continuation where it is not given in bars; None for what
            `output_seconds` leaves.
        prompt_from: which end of the audio the prompt is.

    Raises:
        AudioError: the audio is shorter than what is snapped to.
        RequestError: nothing is left to generate.
    """
    grid, unit = timing.grid, timing.grid.unit_seconds(timing.snap)
    notes: list[str] = []
    first = start = join = 0
    length = 0.0
    if samples > 0:
        there = samples / sample_rate
        begin, end = _snapped(there, grid.downbeat, unit, prompt_from, timing.snap, grid)
        length = _prompt_length(timing, prompt_seconds, unit)
        length, shorter = _fitted(length, end - begin, unit, timing.snap, grid)
        notes += shorter
        if prompt_from == "start":
            first = start = round(begin * sample_rate)
            if start > 0:
                notes.append(
                    f"the first {begin:.3f} s, before the first {timing.snap}, are left out"
                )
        else:
            join = min(round(end * sample_rate), samples)
            start = max(0, join - round(length * sample_rate))
            if there - end > _TOLERANCE_SECONDS:
                notes.append(
                    f"the last {there - end:.3f} s, behind the last whole {timing.snap}, are left "
                    "out"
                )
        join = join or min(start + round(length * sample_rate), samples)
    new = _new_length(timing, length, output_seconds, seconds, unit)
    stop = start + round((length + new) * sample_rate)
    if stop <= join:
        raise RequestError(
            f"nothing to play: the prompt has {length:.4g} s, prompt and continuation together "
            f"shall have {output_seconds:g}; say how many bars or seconds are to be new"
        )
    return Span(first, start, join, stop, length + new, tuple(notes))


def part_seconds(timing: Timing, seconds: float | None, bars: float | None) -> float:
    """The length of a part that is given in bars or, to the nearest whole unit, in seconds."""
    if bars is not None or seconds is None:
        return (bars or 0.0) * timing.grid.bar_seconds
    return _whole(seconds, timing.grid.unit_seconds(timing.snap))


def _whole(seconds: float, unit: float | None) -> float:
    """The nearest whole number of units, one at least; `seconds` where nothing snaps."""
    return seconds if unit is None else max(1, _nearest(seconds / unit)) * unit


def _snapped(
    there: float, downbeat: float, unit: float | None, prompt_from: str, snap: Snap, grid: Grid
) -> tuple[float, float]:
    """First and last position of the grid in audio of `there` seconds."""
    if unit is None:
        return 0.0, there
    # A hair before a boundary is on it: a typed 2.58 s is meant where 2.5806 s is the bar.
    phase = downbeat % unit
    begin = 0.0 if unit - phase < _TOLERANCE_SECONDS else phase
    whole = math.floor((there - begin + _TOLERANCE_SECONDS) / unit)
    if whole < 1:
        raise AudioError(
            f"the audio holds no whole {snap} ({there:.3g} s, and a {snap} at {grid.bpm:g} BPM has "
            f"{unit:.3f} s from {begin:.3f} s on); snap to a beat, or off"
        )
    return begin, begin + whole * unit


def _prompt_length(timing: Timing, prompt_seconds: float, unit: float | None) -> float:
    if timing.prompt_bars is not None:
        return timing.prompt_bars * timing.grid.bar_seconds
    return _whole(prompt_seconds, unit)


def _fitted(
    length: float, most: float, unit: float | None, snap: Snap, grid: Grid
) -> tuple[float, list[str]]:
    """The length that the prompt has in audio that holds `most` seconds of it, and a note."""
    if length <= most + _TOLERANCE_SECONDS:
        return length, []
    if unit is not None:
        most = math.floor((most + _TOLERANCE_SECONDS) / unit) * unit
    bars = most / grid.bar_seconds
    note = f"the audio is shorter than asked for: the prompt is {most:.3f} s, {bars:.4g} bars"
    return most, [note]


def _new_length(
    timing: Timing,
    prompt: float,
    output_seconds: float,
    seconds: float | None,
    unit: float | None,
) -> float:
    """Seconds of the continuation."""
    if timing.bars is not None:
        return timing.bars * timing.grid.bar_seconds
    wanted = output_seconds - prompt if seconds is None else seconds
    return 0.0 if wanted <= 0 else _whole(wanted, unit)


def _nearest(count: float) -> int:
    """The nearest whole number, a half upwards; infinite seconds stay many."""
    return math.floor(min(count, 1e12) + 0.5)
