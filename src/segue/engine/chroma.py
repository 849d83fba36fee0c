"""The melody of some audio, as MusicGen's melody models hear it: one pitch class for each frame.

A spectrum of half a second is summed up over octaves, and the strongest of twelve pitch classes is
kept (arXiv 2306.05284, section 2.3).  How frequencies are shared out among the classes is that of
D. P. W. Ellis, "Chroma feature analysis and synthesis" (2007), with the numbers that the models
were trained with.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SPECTRUM = 1 << 14
"""Samples of a spectrum: 0.5 s at 32 kHz."""

HOP = SPECTRUM // 4
"""Samples from one frame to the next."""

_A0 = 27.5  # Hz; octaves are counted from it
_CENTRE, _WIDTH = 5.0, 2.0  # octaves above it that count most, and how wide that is


def melody_of(samples: np.ndarray, sample_rate: int, bins: int = 12) -> np.ndarray:
    """Find the strongest pitch class of each frame.

    Args:
        samples: `(T,)` or `(T, C)`; channels are mixed.
        sample_rate: in Hz, of the codec.
        bins: pitch classes of an octave, from C.

    Returns:
        `(F,)` int, 0 to `bins - 1`; F is `1 + T // HOP`.  Silence is 0.
    """
    mono = samples.reshape(len(samples), -1).mean(axis=1).astype(np.float32)
    if (missing := SPECTRUM - len(mono)) > 0:
        mono = np.pad(mono, (missing // 2, missing - missing // 2))
    padded = np.pad(mono, SPECTRUM // 2, mode="reflect")
    window = np.hanning(SPECTRUM + 1)[:-1].astype(np.float32)
    filters = chroma_filters(sample_rate, bins)
    found = np.empty(1 + len(mono) // HOP, int)
    for n in range(len(found)):  # one spectrum at a time: 30 s of them are 15 MB
        spectrum = np.fft.rfft(window * padded[n * HOP : n * HOP + SPECTRUM])
        found[n] = np.argmax(filters @ np.square(np.abs(spectrum)).astype(np.float32))
    return found


def fit(melody: np.ndarray, frames: int) -> np.ndarray:
    """Return a melody `(F,)` repeated or cut to `frames`."""
    fitted: np.ndarray = np.resize(melody, frames)
    return fitted


def one_hot(melody: np.ndarray, bins: int) -> np.ndarray:
    """Return what the model's projection takes: `(F, bins)` float32, 1 at each frame's class."""
    hot: np.ndarray = np.eye(bins, dtype=np.float32)[melody]
    return hot


@lru_cache(4)
def chroma_filters(sample_rate: int, bins: int = 12) -> np.ndarray:
    """How much each frequency of a spectrum counts for each pitch class.

    Returns:
        `(bins, SPECTRUM // 2 + 1)` float32; the first class is C.
    """
    frequencies = np.arange(1, SPECTRUM) * sample_rate / SPECTRUM
    place = bins * np.log2(frequencies / _A0)
    place = np.concatenate([[place[0] - 1.5 * bins], place])  # of 0 Hz: one and a half octaves down
    width = np.concatenate([np.maximum(np.diff(place), 1.0), [1.0]])
    half = round(bins / 2)
    distance = place[None, :] - np.arange(bins)[:, None]
    distance = np.remainder(distance + half + 10 * bins, bins) - half
    weights = np.exp(-0.5 * np.square(2 * distance / width))
    weights /= np.maximum(np.linalg.norm(weights, axis=0), np.finfo(np.float32).tiny)
    weights *= np.exp(-0.5 * np.square((place / bins - _CENTRE) / _WIDTH))
    weights = np.roll(weights, -3 * (bins // 12), axis=0)  # from A to C
    filters: np.ndarray = weights[:, : SPECTRUM // 2 + 1].astype(np.float32)
    return filters
