"""Samples: read, write, resample, change channels.

Audio is an array `(T, C)` of floats in -1 to 1 beside its sample rate, as soundfile has it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from .. import atomic
from ..errors import AudioError
from .channels import to_channels
from .decode import Source, open_source
from .decode.opening import opened
from .encode import encode

__all__ = [
    "Audio",
    "check_output",
    "fit",
    "from_array",
    "read",
    "resample",
    "to_channels",
    "write",
]


MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""No converter is slower or faster; a header that says so lies."""

_TRUSTED_FRAMES = 1 << 24
"""Room is made for so many at most because a header says so."""

# Integers of 32 bits and doubles do not survive float32; all else does, bit by bit.
_WIDE_SUBTYPES = ("PCM_32", "DOUBLE")

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


def read(path: str | Path, seconds: float | None = None) -> Audio:
    """Read a file in any format that libsndfile or FFmpeg decode, or its first `seconds`.

    It is read to the end of what is there, whatever its header says; see `segue.audio.decode`.

    Args:
        path: a file, a pipe, or `-` for standard input.
        seconds: at most.

    Raises:
        AudioError: there is no such file, it is no audio, or too much for this machine's memory.
    """
    path = Path(path)
    try:
        with opened(path) as file:
            try:
                with open_source(file, seconds) as source:
                    return _taken(source, seconds, path)
            except AudioError as error:
                reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    except MemoryError:
        reason = "it does not fit into memory"
    raise AudioError(f"{path}: cannot be read as audio: {reason}")


def _taken(source: Source, seconds: float | None, path: Path) -> Audio:
    """The samples of a source, or its first `seconds`."""
    rate, channels = source.sample_rate, source.channels
    dtype = "float64" if source.subtype in _WIDE_SUBTYPES else "float32"
    most = _half_of_memory() // (np.dtype(dtype).itemsize * channels)
    # min() first: infinite seconds are no integer.
    wanted = most + 1 if seconds is None else round(max(0, min(most + 1, seconds * rate)))
    samples = np.empty((min(wanted, source.declared or 0, _TRUSTED_FRAMES), channels), dtype)
    length = 0
    blocks = source.blocks(dtype)
    while length < wanted and (block := next(blocks, None)) is not None:
        end = min(wanted, length + len(block))
        if end > most:
            raise MemoryError
        if end > len(samples):
            samples.resize((max(end, min(wanted, len(samples) * 3 // 2)), channels), refcheck=False)
        samples[length:end] = block[: end - length]
        length = end
    samples.resize((length, channels), refcheck=False)
    notes = tuple(f"{path}: {note}" for note in source.notes)
    return Audio(samples, rate, source.subtype, source.layout, notes)


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def check_output(path: str | Path, audio: Audio) -> None:
    """Find out now, before work is put into it, whether `write` could write something like `audio`.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the audio.
    """
    encode(Path(path), audio.samples[:0], audio.sample_rate, audio.subtype, audio.layout)


def write(path: str | Path, audio: Audio) -> list[str]:
    """Write a file whole or not at all, in the format its name ends in.

    Samples are stored as they came (`audio.subtype`) where the format can, what was lossy as floats
    where it can, otherwise as 24-bit integers or what the format has.  Where integers are, samples
    beyond full scale are limited to it.  A named pipe is written to, and a link's target replaced.

    Returns:
        What the user should know, one line each: samples that were limited, speakers that the
        format cannot name.

    Raises:
        OutputError: the folder is missing, cannot be written, or the disk is full.
        AudioError: the format cannot hold the audio.
    """
    path = Path(path)
    # Not by libsndfile itself, which does not always tell when a disk is full.
    encoded, notes = encode(path, audio.samples, audio.sample_rate, audio.subtype, audio.layout)
    if atomic.is_pipe(path):
        with atomic.explained(path), path.open("wb") as pipe:
            pipe.write(encoded.getbuffer())
        return notes
    with atomic.writing(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    return notes


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
