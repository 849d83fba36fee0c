"""Synthesize a prompt: eight seconds of plucked chords over a bass and a beat."""

from __future__ import annotations

import numpy as np

from ..audio import Audio

SAMPLE_RATE = 44_100
BEAT_SECONDS = 0.5
CHORDS = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 60, 64), (55, 59, 62, 67))
"""A minor, F, C, G as MIDI notes, four beats each."""


def band(seconds: float = 8.0) -> Audio:
    """Synthesize stereo music, float32 at 44.1 kHz, the same every time.

    Args:
        seconds: its length.
    """
    samples = np.zeros((round(seconds * SAMPLE_RATE), 2))
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    beats = int(seconds / BEAT_SECONDS)
    for half_beat in range(2 * beats):
        start = half_beat * BEAT_SECONDS / 2
        chord = CHORDS[half_beat // 8 % len(CHORDS)]
        note = chord[(0, 1, 2, 3, 2, 3, 1, 2)[half_beat % 8]]
        _add(samples, start, _pluck(note, 0.8), 0.25, pan=0.3 + 0.1 * (half_beat % 5))
        _add(samples, start, noise[:1500] * np.exp(-np.arange(1500) / 300), 0.02, pan=0.6)
        if half_beat % 2 == 0:
            _add(samples, start, _pluck(chord[0] - 24, 0.45), 0.5, pan=0.5)
            kick = 55 + 90 * np.exp(-np.arange(6000) / 900)
            thump = np.sin(2 * np.pi * np.cumsum(kick) / SAMPLE_RATE)
            _add(samples, start, thump * np.exp(-np.arange(6000) / 2000), 0.4, pan=0.5)
    return Audio((0.6 * samples / np.abs(samples).max()).astype(np.float32), SAMPLE_RATE)


def _pluck(note: int, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 440 * 2 ** ((note - 69) / 12)
    partials = [
        np.sin(2 * np.pi * n * pitch * time) * np.exp(-3 * n * time) / n for n in range(1, 9)
    ]
    summed: np.ndarray = np.sum(partials, axis=0)
    return summed


def _add(samples: np.ndarray, start: float, sound: np.ndarray, gain: float, pan: float) -> None:
    first = round(start * SAMPLE_RATE)
    room = samples[first : first + len(sound)]
    room += gain * sound[: len(room), None] * np.sqrt([1 - pan, pan])
