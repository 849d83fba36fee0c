"""Samples in memory: their type, conversion from arrays, resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from ..errors import AudioError

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""No converter is slower or faster; a header with another rate is wrong."""

LOUDEST = 1e30
"""Samples beyond it are no sound: float32 is full before the codec has added up a frame."""

_MOST_CHANNELS = 64
"""More than any recording has; an array with more is transposed, `(C, T)`."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Samples with their sample rate.

    Attributes:
        samples: `(T, C)` float32 or float64, -1 to 1.
        sample_rate: in Hz.
        subtype: the encoding of the file that they come from (`"PCM_24"`, `"VORBIS"`, `"AAC"`);
            None if they come from none.
        layout: the speakers of the channels, in WAV's order; see `segue.audio.channels`.
        notes: what the user should know about the file, one line each.

    Raises:
        AudioError: samples of another shape, or a rate below 1 kHz or above 768 kHz.
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
        """The number of channels, C."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return len(self.samples) / self.sample_rate


def from_array(samples: np.ndarray, sample_rate: int) -> Audio:
    """Make audio of an array.

    Args:
        samples: `(T,)` or `(T, C)`, floats in -1 to 1 or signed integers at full scale.
        sample_rate: in Hz.

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
    """Resample `(T, C)` with soxr at its highest quality.

    Args:
        samples: `(T, C)`.
        rate: of `samples`, in Hz.
        to_rate: of the result, in Hz.

    Returns:
        `(round(T * to_rate / rate), C)`.
    """
    if rate == to_rate:
        return samples
    resampled: np.ndarray = soxr.resample(samples, rate, to_rate, quality="VHQ")
    # soxr's length differs from the exact one by a sample now and then.
    return fit(resampled, round(len(samples) * to_rate / rate))


def fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut samples `(T, C)` to `length`, or append silence to make them as long."""
    samples = samples[:length]
    return np.pad(samples, [(0, length - len(samples)), (0, 0)])
