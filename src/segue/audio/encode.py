"""Samples to the contents of a file, in the format that its name ends in."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ..errors import AudioError
from .channels import fitting, held_by, usual_layout, vorbis_order

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

_WITHIN = ("PCM_", "ULAW", "ALAW", "ALAC_", "ADPCM", "DPCM_", "DWVW_", "G72", "GSM", "NMS_")
"""In the names of what decodes to integers.  All else can come out beyond full scale, where what
was encoded was loud, and only floats hold that."""

_BLOCK = 65_536
"""Samples that are written at a time: libsndfile's Vorbis encoder keeps a call's on the stack, and
crashes with a minute of them."""

_EXTENSIBLE = 0xFFFE
"""Microsoft's tag of a WAV that has a channel mask."""


def encode(
    path: Path, samples: np.ndarray, sample_rate: int, subtype: str | None, layout: int | None
) -> tuple[io.BytesIO, list[str]]:
    """The contents of the file `path`, and what the user should know of them.

    Args:
        path: whose ending says the format.
        samples: `(T, C)`, in WAV's order.
        sample_rate: in Hz.
        subtype: how they were stored where they came from; see `Audio`.
        layout: of the channels; see `segue.audio.channels`.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the audio.
    """
    format_ = _FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise AudioError(f"{path}: end the name in .wav, .flac, .ogg or .mp3")
    chosen = _subtype(path, format_, subtype)
    channels = samples.shape[1]
    notes = []
    known = fitting(layout, channels)
    if layout and known and not held_by(format_, known, channels):
        notes.append(
            f"{path}: {format_} does not say which speakers these {channels} channels are for; "
            "a .wav does"
        )
    order = slice(None) if format_ != "OGG" or not known else np.argsort(vorbis_order(channels))
    encoded, beyond = io.BytesIO(), 0
    try:
        if chosen == "VORBIS" and (sample_rate > 200_000 or channels > 255):
            raise ValueError("libsndfile does not refuse this, but crashes")
        with soundfile.SoundFile(
            encoded,
            "w",
            sample_rate,
            channels,
            chosen,
            format=_container(format_, channels, layout),
        ) as file:
            for start in range(0, len(samples), _BLOCK):
                block = samples[start : start + _BLOCK]
                beyond += count_beyond(block)
                file.write(block[:, order])
    except (soundfile.LibsndfileError, ValueError):
        raise AudioError(
            f"{path}: {format_} ({chosen}) cannot hold {channels} channels at "
            f"{sample_rate} Hz; write a .wav"
        ) from None
    if layout is not None and format_ in ("WAV", "RF64"):
        _set_mask(encoded, layout)
    if beyond and chosen.startswith("PCM_"):
        notes.append(f"{path}: {limited(beyond, samples.size)}")
    return encoded, notes


def _subtype(path: Path, format_: str, came: str | None) -> str:
    """How samples are stored."""
    available = soundfile.available_subtypes(format_)
    if path.suffix.lower() == ".opus":
        return "OPUS"
    if came is not None:
        if came in available and came in _KEPT_SUBTYPES:
            return came
        if "FLOAT" in available and not any(name in came for name in _WITHIN):
            return "FLOAT"
    default: str = soundfile.default_subtype(format_)
    return "PCM_24" if "PCM_24" in available else default


def _container(format_: str, channels: int, layout: int | None) -> str:
    """WAV with a channel mask, where one was read that says what a plain WAV would not."""
    unusual = channels > 2 or layout not in (0, usual_layout(channels))
    return "WAVEX" if format_ == "WAV" and layout is not None and unusual else format_


@contextmanager
def new_wav(
    path: Path, sample_rate: int, channels: int, subtype: str, layout: int | None
) -> Iterator[soundfile.SoundFile]:
    """A WAV to be written to block by block, with a channel mask where there is a layout.

    Raises:
        OSError: it cannot be written; a full disk, mostly.
    """
    container = _container("WAV", channels, layout)
    try:
        with soundfile.SoundFile(
            path, "w", sample_rate, channels, subtype, format=container
        ) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise OSError(error.error_string.rstrip(".").lower()) from None
    if layout is not None:
        with path.open("r+b") as written:
            _set_mask(written, layout)


def _set_mask(file: BinaryIO, layout: int) -> None:
    """Put a channel mask into a WAV, if it is of the kind that has one."""
    file.seek(0)
    head = file.read(256)
    at = head.find(b"fmt ") + 8
    if at >= 8 and struct.unpack_from("<H", head, at)[0] == _EXTENSIBLE:
        file.seek(at + 20)
        file.write(struct.pack("<I", layout))


def count_beyond(samples: np.ndarray) -> int:
    """How many samples integers cannot hold: those beyond full scale."""
    return int(np.count_nonzero(np.abs(samples) > 1))


def limited(beyond: int, of: int) -> str:
    """What is said of samples that integers cannot hold."""
    return f"{beyond} of {of} samples are louder than full scale, and were limited to it"
