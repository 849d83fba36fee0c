"""The key/value cache: one array per layer, in buckets.

A decode step must have the same shapes as the one before it, or it cannot be compiled once and run
often.  So the cache is as long as a bucket, positions that are not filled yet are masked, and it
grows by a bucket when it is full.  Keys and values lie in one array: one update a layer and step.
"""

from __future__ import annotations

import mlx.core as mx

BUCKET = 256
"""Positions by which the cache grows: 6 shapes for 30 s, at most 255 masked positions a step."""

LARGE_BYTES = 64 << 20
"""A layer's keys and values that are not to be there twice for all layers at once."""

Cache = list[mx.array]
"""For each layer, keys and values `(B, 2, H, L, D)`."""


def capacity_for(length: int) -> int:
    """The smallest whole number of buckets that holds `length` positions."""
    return -(-length // BUCKET) * BUCKET


def empty(layers: int, batch: int, heads: int, length: int, dim: int, dtype: mx.Dtype) -> Cache:
    """A cache with room for `length` positions."""
    shape = (batch, 2, heads, capacity_for(length), dim)
    return [mx.zeros(shape, dtype) for _ in range(layers)]


def written(kv: mx.array, new: mx.array, position: int) -> mx.array:
    """A layer's keys and values with the new ones `(B, 2, H, S, D)` from `position` on."""
    parts = kv[:, :, :, :position], new, kv[:, :, :, position + new.shape[3] :]
    return mx.concatenate([part for part in parts if part.size], axis=3)


def grown(cache: Cache, by: int = BUCKET) -> Cache:
    """The cache with room for `by` positions more."""
    return [mx.pad(kv, [(0, 0), (0, 0), (0, 0), (0, by), (0, 0)]) for kv in cache]


class Masks:
    """What is added to attention's scores in a step, so that positions not filled yet do not count.

    Each is a slice of one array, so it costs a step nothing but its description.
    """

    def __init__(self, dtype: mx.Dtype) -> None:
        self._dtype = dtype
        self._made = mx.zeros((0,), dtype)

    def of(self, position: int, length: int) -> mx.array:
        """The mask `(length,)` of the query at `position`: zeros up to it, then -inf."""
        if self._made.size != 2 * length:
            filled = mx.zeros((length,), self._dtype)
            self._made = mx.concatenate([filled, mx.full((length,), -mx.inf, self._dtype)])
        start = length - 1 - position
        return self._made[start : start + length]


def widened(cache: Cache, times: int, length: int) -> Cache:
    """The cache with each row `times` over and room for `length` positions, to be written in place.

    Where layers are large they are copied one after the other, so that only one is there twice.

    Args:
        cache: which is taken: it is empty afterwards.
        times: how often each row of its batch is repeated, neighbours staying neighbours.
        length: positions at least.
    """
    found: Cache = []
    cache.reverse()
    while cache:
        kv = cache.pop()
        missing = max(0, length - kv.shape[3])
        (kv,) = grown(repeated([kv], times) if times > 1 else [kv], missing)
        kv = mx.contiguous(kv)
        if kv.nbytes > LARGE_BYTES:
            mx.eval(kv)
        found.append(kv)
    return found


def repeated(cache: Cache, times: int) -> Cache:
    """The cache with each row of its batch `times` over, neighbours staying neighbours."""
    return [mx.repeat(kv, times, axis=0) for kv in cache]
