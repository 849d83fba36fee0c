"""Samples in memory: what they are, from arrays, at another rate, at another length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from ..errors import AudioError

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""No converter is slower or faster; a header that says so lies."""

_MOST_CHANNELS = 64
"""More than any recording has; an array with more stands on its side."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Some sound.

    Attributes:
        samples: `(T, C)` float32 or float64, -1 to 1.
        sample_rate: in Hz.
        subtype: how a sample was stored (`"PCM_24"`, `"VORBIS"`, `"AAC"`), where it came from a
            file.
        layout: which speakers the channels are for, in WAV's order; see `segue.audio.channels`.
        notes: what the user should know of the file, one line each.
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str | None = None
    layout: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[1] == 0:
            raise AudioError(
                f"samples must be (time, channels), and at least one channel; got the shape "
                f"{self.samples.shape}"
            )
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(f"{self.sample_rate} Hz is no sample rate")

    @property
    def channels(self) -> int:
        """How many channels."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """How long."""
        return len(self.samples) / self.sample_rate


def from_array(samples: np.ndarray, sample_rate: int) -> Audio:
    """Audio of an array `(T,)` or `(T, C)`, of floats in -1 to 1 or of integers at full scale.

    Raises:
        AudioError: another shape or type; or more channels than samples, which is an array
            `(C, T)` as torchaudio and librosa have them.
    """
    samples = np.asarray(samples)
    if samples.ndim == 2 and samples.shape[1] > max(samples.shape[0], _MOST_CHANNELS):
        raise AudioError(
            f"samples of the shape {samples.shape} would be {samples.shape[1]} channels; segue "
            "takes (time, channels): pass samples.T"
        )
    if np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"samples must be floats or signed integers, not {samples.dtype}")
    if samples.dtype != np.float64:
        samples = samples.astype(np.float32)
    return Audio(samples[:, None] if samples.ndim == 1 else samples, sample_rate)


def resample(samples: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    """Samples `(T, C)` at another rate, `round(T * to_rate / rate)` of them."""
    if rate == to_rate:
        return samples
    resampled: np.ndarray = soxr.resample(samples, rate, to_rate, quality="VHQ")
    # soxr's length differs from the exact one by a sample now and then.
    return fit(resampled, round(len(samples) * to_rate / rate))


def fit(samples: np.ndarray, length: int) -> np.ndarray:
    """The first `length` of samples `(T, C)`, silence behind them where there are fewer."""
    samples = samples[:length]
    return np.pad(samples, [(0, length - len(samples)), (0, 0)])
