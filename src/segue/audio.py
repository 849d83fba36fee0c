"""Samples: read, write, resample, change channels.

Audio is an array `(T, C)` of floats in -1 to 1 beside its sample rate, as soundfile has it.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .errors import AudioError

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""No converter is slower or faster; a header that says so lies."""

# Integers of 32 bits and doubles do not survive float32; all else does, bit by bit.
_WIDE_SUBTYPES = ("PCM_32", "DOUBLE")

_MOST_CHANNELS = 64
"""More than any recording has; an array with more stands on its side."""

_LENGTH_UNKNOWN = 2**63 - 1
"""What libsndfile says of a FLAC that came out of a pipe."""

_FORMATS = {
    ".wav": "WAV",
    ".w64": "W64",
    ".rf64": "RF64",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".oga": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
}
"""What is written, by the ending of its name.  Of all that libsndfile writes: no raw samples, none
that needs a second file or keeps to rates of its own."""

# What is written as it was read.  A WAV can also hold MP3 and ADPCM, which nobody means by `.wav`.
_KEPT_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "OPUS")

_BLOCK = 65_536
"""Samples that are written at a time: libsndfile's Vorbis encoder keeps a call's on the stack, and
crashes with a minute of them."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Some sound.

    Attributes:
        samples: `(T, C)` float32 or float64, -1 to 1.
        sample_rate: in Hz.
        subtype: how a sample was stored (`"PCM_24"`, `"VORBIS"`), where it came from a file.
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str | None = None

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
    """Read a file in any format that libsndfile knows, or its first `seconds`.

    Raises:
        AudioError: there is no such file, it is no audio, or it ends before it should.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise AudioError(f"{path}: {what}")
    try:
        # By descriptor: with a name, its ending would count for more than what is in the file.
        with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
            if seconds is None and file.frames == _LENGTH_UNKNOWN:
                raise AudioError("it does not say how long it is; save it anew")
            wanted = file.frames if seconds is None else seconds * file.samplerate
            dtype = "float64" if file.subtype in _WIDE_SUBTYPES else "float32"
            count = round(max(0, min(file.frames, wanted)))
            samples = file.read(count, dtype=dtype, always_2d=True)
            return Audio(samples, file.samplerate, file.subtype)
    except soundfile.LibsndfileError as error:
        reason = f"{error.error_string.rstrip('.')}; WAV, FLAC, OGG, MP3 and AIFF files work"
    except OSError as error:
        reason = str(error.strerror)
    except MemoryError:
        reason = "it does not fit into memory"
    except AudioError as error:
        reason = str(error)
    raise AudioError(f"{path}: cannot be read as audio: {reason}")


def check_output(path: str | Path, audio: Audio) -> None:
    """Find out now, before work is put into it, whether `write` could write something like `audio`.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the audio.
    """
    _encode(Path(path), replace(audio, samples=audio.samples[:0]))


def write(path: str | Path, audio: Audio) -> None:
    """Write a file whole or not at all, in the format its name ends in.

    Samples are stored as they came (`audio.subtype`) where the format can, otherwise as 24-bit
    integers or what the format has.  Samples beyond full scale are clipped where integers are.

    Raises:
        AudioError: the folder is missing, cannot be written, or the format cannot hold the audio.
    """
    path = Path(path)
    # Not by libsndfile itself, which does not always tell when a disk is full.
    encoded = _encode(path, audio)
    with beside(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _encode(path: Path, audio: Audio) -> io.BytesIO:
    """The contents of the file `path`."""
    format_ = _FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise AudioError(f"{path}: end the name in .wav, .flac, .ogg or .mp3")
    subtypes = soundfile.available_subtypes(format_)
    subtype = "PCM_24" if "PCM_24" in subtypes else soundfile.default_subtype(format_)
    if audio.subtype in subtypes and audio.subtype in _KEPT_SUBTYPES:
        subtype = audio.subtype
    if path.suffix.lower() == ".opus":
        subtype = "OPUS"
    encoded = io.BytesIO()
    try:
        if subtype == "VORBIS" and (audio.sample_rate > 200_000 or audio.channels > 255):
            raise ValueError("libsndfile does not refuse this, but crashes")
        with soundfile.SoundFile(
            encoded, "w", audio.sample_rate, audio.channels, subtype, format=format_
        ) as file:
            for start in range(0, len(audio.samples), _BLOCK):
                file.write(audio.samples[start : start + _BLOCK])
    except (soundfile.LibsndfileError, ValueError):
        raise AudioError(
            f"{path}: {format_} ({subtype}) cannot hold {audio.channels} channels at "
            f"{audio.sample_rate} Hz; write a .wav"
        ) from None
    return encoded


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file next to `path` that takes its place if all goes well, and is gone if it does not.

    Raises:
        AudioError: the folder is missing or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror})") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; what a user asked for has her usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)


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


def to_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Samples `(T, C)` with another number of channels.

    Down to one channel, and from one, all are alike: the mean, and copies.  Down to two, and from
    two, even channels are left and odd ones right.
    """
    have = samples.shape[1]
    if have == channels:
        return samples
    if channels == 1:
        mean: np.ndarray = samples.mean(axis=1, keepdims=True, dtype=samples.dtype)
        return mean
    if have == 1:
        return np.repeat(samples, channels, axis=1)
    if channels == 2:
        sides = [samples[:, side::2].mean(axis=1, dtype=samples.dtype) for side in (0, 1)]
        return np.stack(sides, axis=1)
    return samples[:, np.arange(channels) % have]
