"""Takes and channels as rows of the codec, which is mono: stereo runs as two rows.

Codebooks of channels are interleaved: the first of the left, the first of the right, the second of
the left.
"""

from __future__ import annotations

import math

import numpy as np

Shape = tuple[int, ...]


def rows_of_codes(codes: np.ndarray, channels: int) -> np.ndarray:
    """Codes `(..., K, F)` of takes as `(B, K / C, F)`, a take's channels one after the other."""
    *takes, K, F = codes.shape
    count = math.prod(takes)
    apart = codes.reshape(count, K // channels, channels, F).swapaxes(1, 2)
    return apart.reshape(count * channels, K // channels, F)


def codes_of_rows(rows: np.ndarray, channels: int, takes: Shape) -> np.ndarray:
    """Codes `(*takes, K, F)` of the rows that `rows_of_codes` makes of them."""
    _, K, F = rows.shape
    together = rows.reshape(math.prod(takes), channels, K, F).swapaxes(1, 2)
    return together.reshape(*takes, channels * K, F)


def rows_of_samples(samples: np.ndarray) -> np.ndarray:
    """Samples `(..., T, C)` of takes as contiguous float32 `(B, T)`."""
    *takes, T, C = samples.shape
    count = math.prod(takes)
    apart = samples.reshape(count, T, C).swapaxes(1, 2)
    return np.ascontiguousarray(apart, np.float32).reshape(count * C, T)


def samples_of_rows(rows: np.ndarray, channels: int, takes: Shape) -> np.ndarray:
    """Samples `(*takes, T, C)` of the rows that `rows_of_samples` makes of them."""
    T = rows.shape[1]
    apart = rows.reshape(math.prod(takes), channels, T)
    return apart.swapaxes(1, 2).reshape(*takes, T, channels)
