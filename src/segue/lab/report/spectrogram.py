"""Spectrograms as PNG files, all on one scale, written without an imaging library."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from ..quality.distances import mel_filters

WIDTH, HEIGHT = 720, 128
FLOOR_DB = -65.0
"""Below the loudest place of all takes; what is quieter is background."""

_WINDOW = 4096
"""At 32 to 48 kHz about a tenth of a second and 128 mel bands."""

_STOPS = ((255, 255, 255), (205, 212, 250), (121, 132, 226), (52, 56, 160), (12, 13, 48))
"""From silence to the loudest: paper, the page's accent, ink.  Lightness falls evenly."""


def decibels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return levels `(HEIGHT, WIDTH)` in dB, the highest mel band first; 0 is a full-scale sine.

    Columns are evenly spaced from the first sample to the last, so that time is a proportion.

    Args:
        samples: `(T, C)`, full scale 1.
        sample_rate: in Hz.
    """
    mono = np.pad(samples.mean(axis=1), _WINDOW // 2)
    starts = np.linspace(0, len(mono) - _WINDOW, WIDTH).round().astype(int)
    window = np.hanning(_WINDOW)
    bands = mel_filters(_WINDOW, sample_rate)
    columns = np.empty((bands.shape[1], WIDTH))
    for x, start in enumerate(starts):
        spectrum = np.abs(np.fft.rfft(mono[start : start + _WINDOW] * window))
        columns[:, x] = spectrum @ bands * (2 / window.sum())
    levels: np.ndarray = 20 * np.log10(np.maximum(columns[::-1], 1e-9))
    return levels


def png(levels: np.ndarray, loudest: float) -> bytes:
    """Return a PNG of `decibels`, from `FLOOR_DB` below `loudest` up to it, in 256 colours."""
    scaled = 255 * (1 - (levels - loudest) / FLOOR_DB)
    pixels = scaled.clip(0, 255).round().astype(np.uint8)
    height, width = pixels.shape
    # Every line starts with its filter: none.
    lines = np.insert(pixels, 0, 0, axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
    chunks = (
        (b"IHDR", header),
        (b"PLTE", _palette()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _palette() -> bytes:
    stops = np.array(_STOPS, dtype=float)
    place = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, n]) for n in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8).tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
