"""The melody of some audio, as MusicGen's melody models hear it: the pitch classes of each frame.

A spectrum of half a second is summed up over octaves, and the strongest of twelve pitch classes is
kept (arXiv 2306.05284, section 2.3).  How frequencies are shared out among the classes is that of
D. P. W. Ellis, "Chroma feature analysis and synthesis" (2007), with the numbers that the models
were trained with.  `MelodyConfig` has what a model may change of it: AudioCraft's `chroma_stem`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..checkpoints.config import MelodyConfig

_A0 = 27.5  # Hz; octaves are counted from it
_CENTRE, _WIDTH = 5.0, 2.0  # octaves above it that count most, and how wide that is
_QUIET = 1e-6
"""A smaller norm does not divide a frame (`ChromaExtractor` of AudioCraft)."""


def features(samples: np.ndarray, sample_rate: int, config: MelodyConfig) -> np.ndarray:
    """Compute what a model is given of a melody.

    Args:
        samples: `(T,)` or `(T, C)`; channels are mixed.
        sample_rate: in Hz, of the codec.
        config: how the model wants it.

    Returns:
        `(config.frames, config.bins)` float32: those of `chroma`, repeated or cut.
    """
    found = chroma(samples, sample_rate, config)
    fitted: np.ndarray = np.resize(found, (config.frames, config.bins))
    return fitted


def silence(config: MelodyConfig) -> np.ndarray:
    """Return the features `(frames, bins)` of no melody: of zeros the first class is strongest."""
    found = np.zeros((config.frames, config.bins), np.float32)
    if config.strongest:
        found[:, 0] = 1
    return found


def chroma(samples: np.ndarray, sample_rate: int, config: MelodyConfig) -> np.ndarray:
    """Compute the pitch classes of each frame.

    Args:
        samples: `(T,)` or `(T, C)`; channels are mixed.
        sample_rate: in Hz.
        config: of which `frames` is not used.

    Returns:
        `(F, bins)` float32, from C: 1 at the strongest class, or all of them normalised.  F is
        `1 + T // hop`.
    """
    size, hop = config.spectrum, config.hop
    mono = samples.reshape(len(samples), -1).mean(axis=1).astype(np.float32)
    if (missing := size - len(mono)) > 0:
        mono = np.pad(mono, (missing // 2, missing - missing // 2))
    padded = np.pad(mono, size // 2, mode="reflect")
    window, filters = _window(config), chroma_filters(sample_rate, size, config.bins)
    found = np.empty((1 + (len(padded) - size) // hop, config.bins), np.float32)
    for n in range(len(found)):  # one spectrum at a time: 30 s of them are 15 MB
        spectrum = np.fft.rfft(window * padded[n * hop : n * hop + size])
        found[n] = filters @ np.square(np.abs(spectrum)).astype(np.float32)
    if config.strongest:
        strongest: np.ndarray = np.eye(config.bins, dtype=np.float32)[found.argmax(axis=1)]
        return strongest
    norms = np.linalg.norm(found, config.norm, axis=1, keepdims=True)
    found /= np.maximum(norms, _QUIET)
    return found


def _window(config: MelodyConfig) -> np.ndarray:
    """The Hann window `(spectrum,)` float32, in the middle, of norm 1."""
    window = np.hanning(config.window + 1)[:-1]
    before = (config.spectrum - config.window) // 2
    padded = np.pad(window, (before, config.spectrum - config.window - before))
    scaled: np.ndarray = (padded / np.linalg.norm(window)).astype(np.float32)
    return scaled


@lru_cache(4)
def chroma_filters(sample_rate: int, size: int, bins: int) -> np.ndarray:
    """How much each frequency of a spectrum counts for each pitch class.

    Args:
        sample_rate: in Hz.
        size: samples of the Fourier transform.
        bins: pitch classes of an octave.

    Returns:
        `(bins, size // 2 + 1)` float32; the first class is C.
    """
    frequencies = np.arange(1, size) * sample_rate / size
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
    filters: np.ndarray = weights[:, : size // 2 + 1].astype(np.float32)
    return filters
