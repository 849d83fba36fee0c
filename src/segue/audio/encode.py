"""Encode samples as the content of a file, in the format that its name ends in."""

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
"""The formats that are written, by suffix: of libsndfile's none with raw samples, none that needs a
second file, none with sample rates of its own."""

# Encodings that are preserved.  A WAV can also hold MP3 and ADPCM, which nobody means by `.wav`.
_PRESERVED_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "OPUS")

_FLOATS = ("FLOAT", "DOUBLE")

_INTEGER_ENCODINGS = (
    "PCM_",
    "ULAW",
    "ALAW",
    "ALAC_",
    "ADPCM",
    "DPCM_",
    "DWVW_",
    "G72",
    "GSM",
    "NMS_",
)
"""Parts of the names of encodings that decode to integers.  All others can decode beyond full
scale, which only floats hold."""

_BLOCK = 65_536
"""Samples of one call: libsndfile's Vorbis encoder allocates them on the stack, and crashes with a
minute of them."""

_EXTENSIBLE = 0xFFFE
"""Microsoft's tag of a WAV that has a channel mask."""


def encode(
    path: Path, samples: np.ndarray, sample_rate: int, subtype: str | None, layout: int | None
) -> tuple[io.BytesIO, list[str]]:
    """Encode the content of the file `path`.

    Args:
        path: its suffix gives the format.
        samples: `(T, C)`, in WAV's order.
        sample_rate: in Hz.
        subtype: the encoding that they come from; see `Audio`.
        layout: of the channels; see `segue.audio.channels`.

    Returns:
        The content, and notes for the user, one line each.

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
    if chosen in _FLOATS and format_ in ("WAV", "AIFF"):
        _clear_time(encoded)
    if beyond and chosen.startswith("PCM_"):
        notes.append(f"{path}: {limited(beyond, samples.size)}")
    return encoded, notes


def subtype_of_bits(path: Path, bits: int) -> str:
    """Return the encoding that has so many bits a sample, 32 being floats.

    Args:
        path: its suffix gives the format.
        bits: 16, 24 or 32.

    Raises:
        AudioError: the format has no such encoding.
    """
    format_ = _FORMATS.get(path.suffix.lower(), "")
    subtype = "FLOAT" if bits == 32 else f"PCM_{bits}"
    if format_ and subtype not in soundfile.available_subtypes(format_):
        what = "floats of 32 bits" if bits == 32 else f"samples of {bits} bits"
        raise AudioError(f"{path}: {format_} has no {what}; write a .wav, or drop the bits")
    return subtype


def _subtype(path: Path, format_: str, original: str | None) -> str:
    """The encoding of the samples."""
    available = soundfile.available_subtypes(format_)
    if path.suffix.lower() == ".opus":
        return "OPUS"
    if original is not None:
        if original in available and original in _PRESERVED_SUBTYPES:
            return original
        if "FLOAT" in available and not any(name in original for name in _INTEGER_ENCODINGS):
            return "FLOAT"
    default: str = soundfile.default_subtype(format_)
    return "PCM_24" if "PCM_24" in available else default


def _container(format_: str, channels: int, layout: int | None) -> str:
    """The container, by libsndfile's name: WAVEX has a channel mask, where one is necessary."""
    unusual = channels > 2 or layout not in (0, usual_layout(channels))
    return "WAVEX" if format_ == "WAV" and layout is not None and unusual else format_


@contextmanager
def new_wav(
    path: Path, sample_rate: int, channels: int, subtype: str, layout: int | None
) -> Iterator[soundfile.SoundFile]:
    """Open a new WAV to write to block by block.

    Args:
        path: of the file.
        sample_rate: in Hz.
        channels: of the samples.
        subtype: libsndfile's name of the encoding.
        layout: of the channels, for a channel mask; None for none.

    Raises:
        OSError: it cannot be written, mostly because the disk is full.
    """
    container = _container("WAV", channels, layout)
    try:
        with soundfile.SoundFile(
            path, "w", sample_rate, channels, subtype, format=container
        ) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise OSError(error.error_string.rstrip(".").lower()) from None
    with path.open("r+b") as written:
        if layout is not None:
            _set_mask(written, layout)
        if subtype in _FLOATS:
            _clear_time(written)


def _set_mask(file: BinaryIO, layout: int) -> None:
    """Write a channel mask into a WAV, if it is extensible."""
    file.seek(0)
    head = file.read(256)
    at = head.find(b"fmt ") + 8
    if at >= 8 and struct.unpack_from("<H", head, at)[0] == _EXTENSIBLE:
        file.seek(at + 20)
        file.write(struct.pack("<I", layout))


def _clear_time(file: BinaryIO) -> None:
    """Set the time at which a file of floats was written to 0, so that one result is one file.

    libsndfile puts it into the chunk PEAK of a WAV or an AIFF, behind its size and version.
    """
    file.seek(0)
    at = file.read(256).find(b"PEAK")
    if at >= 0:
        file.seek(at + 12)
        file.write(bytes(4))


def count_beyond(samples: np.ndarray) -> int:
    """Count the samples beyond full scale, which integers cannot hold."""
    return int(np.count_nonzero(np.abs(samples) > 1))


def limited(beyond: int, of: int) -> str:
    """Make the note about samples that integers cannot hold."""
    return f"{beyond} of {of} samples are louder than full scale, and were limited to it"
