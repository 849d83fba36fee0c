"""Relative positions in T5, for every engine."""

from __future__ import annotations

import math

import numpy as np


def relative_buckets(length: int, num_buckets: int, max_distance: int) -> np.ndarray:
    """The bucket `(length, length)` of each query and key: half for each direction.

    In each direction the first half of the buckets are distances one by one, the rest grow
    logarithmically up to `max_distance`.
    """
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = num_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # In float32, as the reference computes it: a bucket's edge must fall on the same side.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / exact) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (ratio * (half - exact)).astype(np.int64), half - 1)
    buckets: np.ndarray = np.where(distance > 0, half, 0) + np.where(size < exact, size, far)
    return buckets
