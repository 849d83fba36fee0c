"""Find beats in audio, and measure how far they lie from a grid.

The tracker is madmom's (S. Böck, F. Krebs, G. Widmer, Joint beat and downbeat tracking with
recurrent neural networks, ISMIR 2016), in the reimplementation `madmom-infer`, which comes with
`pip install "segue[beats]"`.  On its first use that downloads the networks (3.3 MB) from their
authors, who license them CC BY-NC-SA 4.0, as MusicGen's own weights are for non-commercial use.
Without it a typed tempo works all the same; docs/dependencies.md has the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from .audio import Audio, resample
from .bars import MAX_BPM, MIN_BPM, Grid
from .errors import AudioError, RequestError

RATE = 44_100
"""Sample rate of what the networks were trained on, in Hz."""

_FPS = 100
_FEWEST = 4
"""Beats that a tempo follows from, at least."""

_WHOLE = 0.002
"""How near to a whole number a tempo is taken for it: music made by machines has whole tempos."""

_NEAR = 4 / 3
"""Factor within which the tempo of a continuation is looked for: neither half nor double."""

_BEFORE_SECONDS, _BEHIND_SECONDS = 15.0, 120.0
"""What is heard around the start of a continuation: tracking takes a fifth of what it hears."""


@dataclass(frozen=True, eq=False)
class Beats:
    """Beats that were found.

    Attributes:
        times: `(N,)`, in seconds from the start of the audio.
        counts: `(N,)`, 1 for the first beat of a bar.
    """

    times: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Offsets:
    """How far beats lie from the nearest beat of a grid.

    Attributes:
        beats: how many there are.
        median_ms, worst_ms: of the distances, either way, in milliseconds.
        mean_ms: of the distances with their signs; more than 0 where beats are late.
        bpm: the tempo of these beats, by a line through them.
    """

    beats: int
    median_ms: float
    worst_ms: float
    mean_ms: float
    bpm: float


def available() -> bool:
    """Whether the tracker is installed."""
    return find_spec("madmom_infer") is not None


def track(
    audio: Audio,
    beats_per_bar: tuple[int, ...] = (3, 4),
    min_bpm: float = 55.0,
    max_bpm: float = 215.0,
) -> Beats:
    """Find beats and downbeats.

    Args:
        audio: music, of some seconds at least.
        beats_per_bar: the metres that it may have.
        min_bpm: the slowest tempo that is looked for.
        max_bpm: the fastest.

    Raises:
        AudioError: there is nothing to hear.
        RequestError: the tracker is not installed, or cannot get its networks.
    """
    if not available():
        raise RequestError(
            "finding beats needs another package: pip install 'segue[beats]'; or type the tempo, "
            "such as --bpm 93"
        )
    from madmom_infer.audio.signal import Signal
    from madmom_infer.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    mono = audio.samples.mean(axis=1, keepdims=True)
    if not np.isfinite(mono).all() or len(mono) < audio.sample_rate / 2:
        raise AudioError("the audio is too short to find beats in, or holds samples that are none")
    heard = resample(mono, audio.sample_rate, RATE)[:, 0].astype(np.float32)
    try:
        network = RNNDownBeatProcessor()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(
            f"madmom-infer cannot get its networks ({reason}); connect and try again, or type the "
            "tempo, such as --bpm 93"
        ) from None
    decoder = DBNDownBeatTrackingProcessor(
        beats_per_bar=list(beats_per_bar), min_bpm=min_bpm, max_bpm=max_bpm, fps=_FPS
    )
    found = np.asarray(decoder(network(Signal(heard, RATE, num_channels=1))))
    if len(found) == 0:
        return Beats(np.zeros(0), np.zeros(0, int))
    return Beats(found[:, 0], found[:, 1].astype(int))


def find_grid(audio: Audio, beats_per_bar: float | None = None) -> Grid:
    """Find tempo, metre and downbeat of music of one tempo.

    Args:
        audio: some bars at least.
        beats_per_bar: where it is known; else 3 or 4 are found.

    Raises:
        AudioError: no beat is found.
        RequestError: see `track`; or the metre is not a whole number of beats.
    """
    if beats_per_bar is not None and (beats_per_bar != int(beats_per_bar) or beats_per_bar < 2):
        raise RequestError(
            f"bars of {beats_per_bar:g} beats cannot be found, only whole numbers of 2 and more; "
            "type bpm and downbeat"
        )
    return grid_of(track(audio, (3, 4) if beats_per_bar is None else (int(beats_per_bar),)))


def find_downbeat(audio: Audio, grid: Grid) -> Grid:
    """Find where bars begin, of music whose tempo is known.

    Raises:
        AudioError: no beat is found.
        RequestError: see `find_grid`.
    """
    if grid.beats_per_bar != int(grid.beats_per_bar) or grid.beats_per_bar < 2:
        raise RequestError(
            f"the downbeat of bars of {grid.beats_per_bar:g} beats cannot be found; type it"
        )
    beats = track(audio, (int(grid.beats_per_bar),), grid.bpm / 1.05, grid.bpm * 1.05)
    return _anchored(beats, grid.bpm, grid.beats_per_bar)


def grid_of(beats: Beats) -> Grid:
    """The grid that lies nearest to beats, by a line through them.

    A tempo within 0.2 % of a whole number is taken for it.

    Raises:
        AudioError: there are fewer than four beats.
    """
    bpm = 60 / _beat_seconds(beats.times)
    if abs(bpm / round(bpm) - 1) <= _WHOLE:
        bpm = float(round(bpm))
    if not MIN_BPM <= bpm <= MAX_BPM:
        raise AudioError(f"no tempo is found in the audio ({bpm:.0f} BPM); type it")
    return _anchored(beats, round(bpm, 3), float(beats.counts.max()))


def _anchored(beats: Beats, bpm: float, beats_per_bar: float) -> Grid:
    """The grid of a known tempo whose beats and downbeats lie nearest to those found."""
    beat = 60 / bpm
    _beat_seconds(beats.times)  # raises where there are too few
    # Beats are points on a circle as long as a beat: their mean has no edge to fall over.
    phase = np.angle(np.exp(2j * np.pi * beats.times / beat).mean()) / (2 * np.pi) * beat
    numbers = np.round((beats.times - phase) / beat).astype(int)
    votes = np.bincount((numbers - (beats.counts - 1)) % int(beats_per_bar))
    downbeat = (phase + int(votes.argmax()) * beat) % (beats_per_bar * beat)
    return Grid(bpm, beats_per_bar, round(float(downbeat), 4))


def offsets(audio: Audio, grid: Grid, start: int) -> Offsets | None:
    """How far the beats of a continuation lie from the grid.

    The tracker hears 15 s before `start`, too, since a beat is known by those before it, and looks
    for any tempo between three quarters and four thirds of the grid's; what lies behind `start` is
    counted, of two minutes at most.

    Args:
        audio: of a take.
        grid: of the same; see `Result.grid`.
        start: the first sample of the continuation; see `Result.join`.

    Returns:
        None where no beats are found there.

    Raises:
        AudioError: see `track`.
        RequestError: see there.
    """
    metre = int(grid.beats_per_bar)
    metres = (metre,) if metre == grid.beats_per_bar and metre >= 2 else (3, 4)
    rate = audio.sample_rate
    begin = max(0, start - round(_BEFORE_SECONDS * rate))
    heard = audio.samples[begin : start + round(_BEHIND_SECONDS * rate)]
    found = track(replace(audio, samples=heard), metres, grid.bpm / _NEAR, grid.bpm * _NEAR)
    times = found.times + begin / rate
    return offsets_of(times[times >= start / rate], grid)


def offsets_of(times: np.ndarray, grid: Grid) -> Offsets | None:
    """How far beats at `times` `(N,)`, in seconds, lie from the grid; None for fewer than four."""
    if len(times) < _FEWEST:
        return None
    beat = grid.beat_seconds
    late = (times - grid.downbeat + beat / 2) % beat - beat / 2
    return Offsets(
        beats=len(times),
        median_ms=round(1000 * float(np.median(np.abs(late))), 1),
        worst_ms=round(1000 * float(np.abs(late).max()), 1),
        mean_ms=round(1000 * float(late.mean()), 1),
        bpm=round(60 / _beat_seconds(times), 2),
    )


def _beat_seconds(times: np.ndarray) -> float:
    """The length of a beat, by a line through beats `(N,)`, of which some may be missing."""
    if len(times) < _FEWEST:
        raise AudioError(f"only {len(times)} beats are found in the audio; type the tempo")
    usual = float(np.median(np.diff(times)))
    numbers = np.concatenate([[0], np.cumsum(np.round(np.diff(times) / usual))])
    return float(np.polyfit(numbers, times, 1)[0])
