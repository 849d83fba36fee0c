"""The header of a WAV of 16 bits."""

from __future__ import annotations

import struct

LENGTH = 44
"""Bytes before the first sample, here and in what libsndfile writes."""

UNKNOWN = 0xFFFFFFFF
"""The length of what is not done yet."""


def wav_header(sample_rate: int, channels: int, data_bytes: int = UNKNOWN) -> bytes:
    """What stands before so many bytes of samples."""
    frame = 2 * channels
    format_ = struct.pack("<HHIIHH", 1, channels, sample_rate, frame * sample_rate, frame, 16)
    total = min(UNKNOWN, data_bytes + LENGTH - 8)
    return (
        b"RIFF"
        + struct.pack("<I", total)
        + b"WAVEfmt "
        + struct.pack("<I", len(format_))
        + format_
        + b"data"
        + struct.pack("<I", data_bytes)
    )
