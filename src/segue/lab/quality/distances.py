"""How far one sound is from another: pure functions on samples.

Samples are floats `(T, C)` at full scale 1, both sounds at one rate, of one length and with as many
channels.  These measures point to differences worth listening to; none of them replaces an ear.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WINDOWS = (512, 1024, 2048, 4096)
"""Sizes of the multi-resolution spectra; hops are a quarter."""

BINS_PER_BAND = 16
"""Of the mel bands: 16 bands for a window of 512, 128 for one of 4096, and none is empty."""

FLOOR_DB = -80.0
"""Below a full-scale sine; what is quieter counts as this quiet, so that silence has a level."""

CHROMA_SECONDS = 0.25
"""A window that resolves semitones from 110 Hz on, in music that moves."""

CHROMA_NOTES = (45, 105)
"""MIDI notes that are folded: A2 (110 Hz) to A7 (3520 Hz)."""

ONSET_HOP_SECONDS = 0.01
ONSET_LAG_SECONDS = 0.05
"""Somewhat more than what is perceived as simultaneous."""

_FLAT = 1e-18
"""Of an onset strength that does not change but by rounding, the sum of squares."""

SILENCE_LUFS = -70.0
"""The absolute gate of ITU-R BS.1770: nothing is quieter."""


def spectral_distance(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> float:
    """Return the mean difference in dB between mel spectra of several resolutions.

    mean over the sizes `WINDOWS`, channels, frames and bands of |20 log10 A - 20 log10 B|: the L1
    part of the spectral loss that codecs are trained with (EnCodec,
    https://arxiv.org/abs/2210.13438, section 3.4), in dB.  A sound against itself with a gain of
    g dB has the distance |g|, less where it is quieter than `FLOOR_DB`.

    Args:
        baseline: `(T, C)`.
        variant: `(T, C)`, as long and at the same rate.
        sample_rate: of both, in Hz.

    Returns:
        dB, 0 for the same sound.
    """
    distances = []
    for size in WINDOWS:
        bands = mel_filters(size, sample_rate)
        one, other = (_decibels(_spectra(s, size) @ bands) for s in (baseline, variant))
        distances.append(np.abs(one - other).mean())
    return float(np.mean(distances))


def spectral_convergence(baseline: np.ndarray, variant: np.ndarray) -> float:
    """Return the relative error of the magnitudes, which the loudest parts dominate.

    mean over `WINDOWS` of ‖|A| - |B|‖ / ‖|A|‖ (Frobenius), as in the multi-resolution STFT loss of
    https://arxiv.org/abs/1910.11480.  A gain of g has |g - 1|.  A baseline of silence counts as one
    of `FLOOR_DB`.

    Args:
        baseline: `(T, C)`.
        variant: `(T, C)`, as long and at the same rate.

    Returns:
        A ratio, 0 for the same sound.
    """
    ratios = []
    for size in WINDOWS:
        one, other = _spectra(baseline, size), _spectra(variant, size)
        quietest = 10 ** (FLOOR_DB / 20) * math.sqrt(one.size)
        # Not numpy's norm: BLAS sums in another order with another number of threads.
        error, whole = (math.sqrt(np.square(each).sum()) for each in (one - other, one))
        ratios.append(error / max(whole, quietest))
    return float(np.mean(ratios))


def chroma_similarity(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> float:
    """Return how much of the harmony is shared, frame by frame, octaves aside.

    The cosine of the two sounds' `chroma`, averaged over the frames in which at least one sounds.
    1 for the same notes at any level; 0 where only one of the two sounds.

    Args:
        baseline: `(T, C)`.
        variant: `(T, C)`, as long and at the same rate.
        sample_rate: of both, in Hz.

    Returns:
        0 to 1.
    """
    return mean_cosine(chroma(baseline, sample_rate), chroma(variant, sample_rate))


def chroma(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return pitch classes `(frames, 12)` from C, as magnitudes.

    The power of a spectrum, all channels together, is gathered by triangular filters a semitone to
    each side of every note of `CHROMA_NOTES`, which is a coarse constant-Q spectrum (Brown,
    Calculation of a constant Q spectral transform, 1991), and notes are folded into their octave
    (Fujishima, Realtime chord recognition of musical sound, 1999).

    Args:
        samples: `(T, C)`.
        sample_rate: in Hz.
    """
    size = _power_of_two(CHROMA_SECONDS * sample_rate)
    power = (_spectra(samples, size) ** 2).sum(axis=0)
    notes = power @ _note_filters(size, sample_rate)
    lowest = CHROMA_NOTES[0]
    classes = np.stack(
        [notes[:, (pitch - lowest) % 12 :: 12].sum(axis=1) for pitch in range(12)], axis=1
    )
    quietest = 10 ** (FLOOR_DB / 10)
    magnitudes: np.ndarray = np.sqrt(np.where(classes > quietest, classes, 0.0))
    return magnitudes


def onset_similarity(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> float:
    """Return how much of the rhythm is shared: the correlation of `onset_strength`.

    Pearson's, the largest over shifts up to `ONSET_LAG_SECONDS`.  1 if neither has an onset, 0 if
    only one has.

    Args:
        baseline: `(T, C)`.
        variant: `(T, C)`, as long and at the same rate.
        sample_rate: of both, in Hz.

    Returns:
        -1 to 1.
    """
    one, other = onset_strength(baseline, sample_rate), onset_strength(variant, sample_rate)
    lags = round(ONSET_LAG_SECONDS / ONSET_HOP_SECONDS)
    best = -1.0
    for lag in range(-lags, lags + 1):
        a = one[max(0, lag) : len(one) + min(0, lag)]
        b = other[max(0, -lag) : len(other) + min(0, -lag)]
        if len(a) > 1:
            best = max(best, _correlation(a, b))
    return best


def onset_strength(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return how much starts in each hop of 10 ms, `(frames,)`.

    Spectral flux: the sum over mel bands of what log(1 + 1000 A) grows by, half-wave rectified
    (Böck, Krebs and Schedl, Evaluating the online capabilities of onset detection methods, 2012).

    Args:
        samples: `(T, C)`.
        sample_rate: in Hz.
    """
    size = _power_of_two(0.032 * sample_rate)
    hop = round(ONSET_HOP_SECONDS * sample_rate)
    magnitudes = _spectra(samples, size, hop).mean(axis=0) @ mel_filters(size, sample_rate)
    strength: np.ndarray = np.diff(np.log1p(1000 * magnitudes), axis=0).clip(min=0).sum(axis=1)
    return strength


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Return integrated loudness in LUFS, after ITU-R BS.1770-4.

    That is K-weighted, and gated at -70 LUFS and -10 LU.

    The two weighting filters are applied to the whole sound as frequency responses.  Sound that is
    shorter than a block of 0.4 s is one block; silence has `SILENCE_LUFS`.

    Args:
        samples: `(T, C)`.
        sample_rate: in Hz.
    """
    T = len(samples)
    padded = T + sample_rate // 4  # the filters ring: by then at less than -100 dB
    spectrum = np.fft.rfft(samples.astype(np.float64), padded, axis=0)
    weighting = _k_weighting(np.fft.rfftfreq(padded, 1 / sample_rate), sample_rate)
    power = (np.fft.irfft(spectrum * weighting[:, None], padded, axis=0)[:T] ** 2).sum(axis=1)
    size, hop = min(T, round(0.4 * sample_rate)), round(0.1 * sample_rate)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, T - size + 1, hop)
    blocks = (sums[starts + size] - sums[starts]) / size
    blocks = blocks[blocks > _power_of_lufs(SILENCE_LUFS)]
    if not blocks.size:
        return SILENCE_LUFS
    gate = blocks.mean() / 10  # -10 LU
    return float(10 * np.log10(blocks[blocks > gate].mean()) - 0.691)


def mel_filters(size: int, sample_rate: int) -> np.ndarray:
    """Return triangular filters `(size // 2 + 1, bands)` that average bins, evenly spaced in mel.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987), from 0 Hz to half the rate.  A filter that
    is narrower than the bins is widened to reach one to each side.

    Args:
        size: samples of the spectrum's window.
        sample_rate: in Hz.
    """
    return _mel_filters(size, sample_rate)


@cache
def _mel_filters(size: int, sample_rate: int) -> np.ndarray:
    bands = size // (2 * BINS_PER_BAND)
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    return _triangles(edges, size, sample_rate)


@cache
def _note_filters(size: int, sample_rate: int) -> np.ndarray:
    lowest, highest = CHROMA_NOTES
    notes = np.arange(lowest - 1, highest + 1)  # 60 notes, five octaves, and one to each side
    return _triangles(440 * 2 ** ((notes - 69) / 12), size, sample_rate)


def _triangles(edges: np.ndarray, size: int, sample_rate: int) -> np.ndarray:
    """Filters that rise from each edge to the next and fall to the one after; each adds up to 1."""
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    width = sample_rate / size
    low = np.minimum(edges[:-2], edges[1:-1] - width)
    high = np.maximum(edges[2:], edges[1:-1] + width)
    middle = edges[1:-1]
    heights = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(min=0)
    sums = heights.sum(axis=0)
    filters: np.ndarray = heights / np.where(sums > 0, sums, 1.0)
    return filters


def _spectra(samples: np.ndarray, size: int, hop: int | None = None) -> np.ndarray:
    """Magnitudes `(C, frames, size // 2 + 1)` under Hann windows; a full-scale sine peaks at 1.

    Half a window of silence lies before and behind, so that the ends count as much as the rest.
    """
    hop = size // 4 if hop is None else hop
    padded = np.pad(samples.astype(np.float64), [(size // 2, size // 2), (0, 0)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = sliding_window_view(padded, size, axis=0)[::hop]  # (frames, C, size)
    magnitudes: np.ndarray = np.abs(np.fft.rfft(frames * window, axis=-1)) * (2 / window.sum())
    return magnitudes.transpose(1, 0, 2)


def _decibels(magnitudes: np.ndarray) -> np.ndarray:
    decibels: np.ndarray = 20 * np.log10(np.maximum(magnitudes, 10 ** (FLOOR_DB / 20)))
    return decibels


def _power_of_two(samples: float) -> int:
    return int(2 ** round(math.log2(samples)))


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean cosine of rows `(frames, N)`, over those in which either is not zero."""
    squares = (one * one).sum(axis=1), (other * other).sum(axis=1)
    sounding = (squares[0] > 0) | (squares[1] > 0)
    if not sounding.any():
        return 1.0
    product = squares[0] * squares[1]
    cosines = (one * other).sum(axis=1) / np.sqrt(np.where(product > 0, product, 1.0))
    return float(np.minimum(cosines[sounding], 1.0).mean())


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    one, other = (a * a).sum(), (b * b).sum()
    flat = one < _FLAT, other < _FLAT
    if any(flat):
        return 1.0 if all(flat) else 0.0
    return float(np.clip((a * b).sum() / np.sqrt(one * other), -1.0, 1.0))


def _power_of_lufs(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _k_weighting(frequencies: np.ndarray, sample_rate: int) -> np.ndarray:
    """The response of BS.1770's two filters at `frequencies`.

    A shelf of 4 dB for the head and a high pass, for any sample rate by the analogue prototypes of
    their 48 kHz coefficients, as libebur128 has them.
    """
    z = np.exp(-2j * np.pi * frequencies / sample_rate)
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    shelf = (
        (high + band * k / q + k * k)
        + 2 * (k * k - high) * z
        + (high - band * k / q + k * k) * z * z
    ) / ((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z * z)
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    high_pass = (1 - z) ** 2 / (1 + 2 * (k * k - 1) / norm * z + (1 - k / q + k * k) / norm * z * z)
    response: np.ndarray = shelf * high_pass
    return response
