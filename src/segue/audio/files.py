"""Audio files: read in any format, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .. import atomic
from ..errors import AudioError
from .decode import Source, open_source
from .decode.opening import opened
from .encode import encode
from .samples import Audio
from .tags import Tags, tagged

_TRUSTED_FRAMES = 1 << 24
"""Frames that are allocated at most because a header declares them."""

# Integers of 32 bits and doubles do not survive float32; all else does, bit by bit.
_WIDE_SUBTYPES = ("PCM_32", "DOUBLE")


def read(path: str | Path, seconds: float | None = None) -> Audio:
    """Read a file in any format that libsndfile or FFmpeg decode.

    It is read to the end of its content, whatever its header says; see `segue.audio.decode`.

    Args:
        path: a file, a pipe, or `-` for standard input.
        seconds: the length to read at most; None for all.

    Returns:
        Float64 samples of a file of 32-bit integers or doubles, float32 of any other.

    Raises:
        AudioError: the file does not exist, is not audio, or does not fit into memory; one line.
    """
    path = Path(path)
    try:
        with opened(path) as file:
            try:
                with open_source(file, seconds) as source:
                    return _collected(source, seconds, path)
            except AudioError as error:
                reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    except MemoryError:
        reason = "it does not fit into memory"
    raise AudioError(f"{path}: cannot be read as audio: {reason}")


def _collected(source: Source, seconds: float | None, path: Path) -> Audio:
    """All samples of a source, or those of its first `seconds`."""
    rate, channels = source.sample_rate, source.channels
    dtype = "float64" if source.subtype in _WIDE_SUBTYPES else "float32"
    most = half_of_memory() // (np.dtype(dtype).itemsize * channels)
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


def half_of_memory() -> int:
    """Return the bytes that a file's samples may take at most: half of the machine's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def check_output(path: str | Path, audio: Audio) -> None:
    """Check before a long computation that `write` can write something like `audio` to `path`.

    Raises:
        AudioError: the name ends in no known format, or the format cannot hold the audio.
    """
    encode(Path(path), audio.samples[:0], audio.sample_rate, audio.subtype, audio.layout)


def write(path: str | Path, audio: Audio, tags: Tags | None = None) -> list[str]:
    """Write a file whole or not at all, in the format its name ends in.

    Samples are stored in their original encoding (`audio.subtype`) where the format has it, those
    of a lossy one as floats where it has them, otherwise as 24-bit integers or in the format's
    default.  In integers, samples beyond full scale are limited to it.  A named pipe is written
    to; of a link, the target is replaced.

    Args:
        path: its suffix gives the format.
        audio: what is written.
        tags: title, comment and tempo; WAV, FLAC, OGG and MP3 have them.

    Returns:
        Notes for the user, one line each: samples that were limited, speakers that the format
        cannot name.

    Raises:
        OutputError: the folder is missing, cannot be written, or the disk is full.
        AudioError: the format cannot hold the audio.
    """
    path = Path(path)
    # Not by libsndfile itself, which does not always report a full disk.
    encoded, notes = encode(path, audio.samples, audio.sample_rate, audio.subtype, audio.layout)
    if tags is not None:
        encoded = tagged(path, encoded, tags)
    if atomic.is_pipe(path):
        with atomic.explained(path), path.open("wb") as pipe:
            pipe.write(encoded.getbuffer())
        return notes
    with atomic.writing(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    return notes
