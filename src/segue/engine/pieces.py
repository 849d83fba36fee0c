"""The codec's convolutions over pieces of music, so that memory does not grow with its length.

They see a few frames around each sample; what a piece is computed from has that much around it, so
that nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..checkpoints.config import CodecConfig


@dataclass(frozen=True)
class Piece:
    """Frames `start` to `stop` of some music, computed from frames `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int

    def within(self, per_frame: int) -> slice:
        """Steps, so many a frame, that belong to the piece, of those that were computed."""
        first = (self.start - self.first) * per_frame
        return slice(first, first + (self.stop - self.start) * per_frame)


def pieces(frames: int, most: int, config: CodecConfig) -> Iterator[Piece]:
    """Cut `frames` into pieces of about `most`, each with enough around it to change nothing."""
    around = context(config)
    # The rest of the division goes to the last piece if it is too short for a piece of its own.
    cuts = [*range(0, max(1, frames - widest(config)), most), frames]
    for start, stop in pairwise(cuts):
        yield Piece(start, stop, max(0, start - around), min(frames, stop + around))


def widest(config: CodecConfig) -> int:
    """Steps that the widest kernel spans."""
    dilation: int = config.dilation_growth ** (config.num_residual_layers - 1)
    residual = (config.residual_kernel_size - 1) * dilation + 1
    return max(config.kernel_size, config.last_kernel_size, residual)


def context(config: CodecConfig) -> int:
    """Frames on each side that the convolutions around the LSTMs see, or more."""
    residuals = sum(
        (config.residual_kernel_size - 1) * config.dilation_growth**n
        for n in range(config.num_residual_layers)
    )
    steps = config.kernel_size + config.last_kernel_size
    seen, rate = 0.0, config.hop_length
    seen += steps / rate
    for ratio in reversed(config.ratios):
        seen += residuals / rate
        rate //= int(ratio)
        seen += 2 / rate  # a kernel of two strides
    return math.ceil(seen)
