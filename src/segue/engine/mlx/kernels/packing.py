"""Many arrays in one: what a launch costs the host grows with the arrays that it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

Parts = Mapping[str, tuple[mx.Dtype, tuple[int, ...], int]]
"""Arrays by their names: type, shape, and where the bytes of each begin."""

ALIGNED = 16
"""Bytes that a kernel reads at a time at most, where an array begins."""


@dataclass(frozen=True)
class Packed:
    """Arrays that lie in one.

    Attributes:
        data: all of them, bytes.
        parts: what is where.
    """

    data: mx.array
    parts: Parts

    def views(self) -> dict[str, mx.array]:
        """The arrays, which share the memory of `data`."""
        found = {}
        for name, (dtype, shape, start) in self.parts.items():
            end = start + dtype.size * math.prod(shape)
            found[name] = self.data[start:end].view(dtype).reshape(shape)
        return found


def pack(arrays: Mapping[str, mx.array]) -> Packed:
    """Copy arrays into one."""
    parts, pieces, at = {}, [], 0
    for name, array in arrays.items():
        missing = -array.nbytes % ALIGNED
        parts[name] = array.dtype, array.shape, at
        pieces.append(array.reshape(-1).view(mx.uint8))
        pieces.append(mx.zeros(missing, mx.uint8))
        at += array.nbytes + missing
    return Packed(mx.concatenate(pieces), parts)
