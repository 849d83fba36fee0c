"""The codec over many takes, in pieces: memory grows neither with their number nor their length.

The LSTM runs over whole takes, many at once, since a step costs about the same for all of them; the
convolutions, which need a hundred times its memory, over as many frames as fill a GPU.  A row gives
the same alone or with others, up to the order in which a library adds up its products; with kernels
for both, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import mlx.core as mx
import numpy as np

from ...errors import ModelOverflowError
from ..pieces import pieces
from .codec import Codec
from .kernels import MAX_LSTM_ROWS
from .turns import turn

FRAMES_CONVOLVED = 1500
"""Frames of a piece, of all its rows together: 30 s, whose largest values take 0.25 GB."""

FRAMES_REMEMBERED = 48_000
"""Frames that the LSTM runs over at once, of all rows together; its gates take 0.8 GB."""

Value = TypeVar("Value")


def encode(codec: Codec, samples: np.ndarray, num_codebooks: int) -> np.ndarray:
    """Codes `(B, K, F)` int32 of float32 samples `(B, T)`, with the first `num_codebooks`.

    Raises:
        ModelOverflowError: what the codes stand for is not finite.
    """
    B, T = samples.shape
    frames = -(-T // codec.config.hop_length)
    found = np.empty((B, num_codebooks, frames), np.int32)

    def submitted() -> Iterator[tuple[slice, mx.array, mx.array]]:
        for rows in _groups(0, B, FRAMES_CONVOLVED // frames):
            with _turn(codec):
                codes, finite = codec.encode(mx.array(samples[rows, :, None]), num_codebooks)
                mx.async_eval(codes, finite)
            yield rows, codes, finite

    for rows, codes, finite in _one_late(submitted() if frames else iter(())):
        found[rows] = np.array(codes)
        _check(finite, "encoder's values")
    return found


def decode(
    codec: Codec, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """Samples `(B, T)` float32 of codes `(B, K, F)`; T is F hops.

    Args:
        codec: what decodes.
        codes: of all rows.
        advance: called with the number of rows that are done.

    Raises:
        ModelOverflowError: a sample is not finite.
    """
    B, _, F = codes.shape
    hop = codec.config.hop_length
    found = np.empty((B, F * hop), np.float32)

    def submitted() -> Iterator[tuple[slice, slice, mx.array, mx.array]]:
        for together in _groups(0, B, min(MAX_LSTM_ROWS, FRAMES_REMEMBERED // F)):
            with _turn(codec):
                hidden = codec.remember(mx.array(codes[together]))
                mx.async_eval(hidden)
            for rows in _groups(together.start, together.stop, FRAMES_CONVOLVED // F):
                few = slice(rows.start - together.start, rows.stop - together.start)
                for piece in pieces(F, FRAMES_CONVOLVED, codec.config):
                    with _turn(codec):
                        whole = codec.synthesize(hidden[few, piece.first : piece.last])
                        samples = whole[:, piece.within(hop), 0]
                        finite = mx.isfinite(samples).all()
                        mx.async_eval(samples, finite)
                    yield rows, slice(piece.start * hop, piece.stop * hop), samples, finite

    for rows, steps, samples, finite in _one_late(submitted() if F else iter(())):
        found[rows, steps] = np.array(samples)
        _check(finite, "samples")
        if steps.stop == found.shape[1]:
            advance(rows.stop)
    return found


def _groups(start: int, stop: int, most: int) -> Iterator[slice]:
    """`start` to `stop` in slices of at most `most`, and of one at least."""
    for first in range(start, stop, max(1, most)):
        yield slice(first, min(stop, first + max(1, most)))


def _one_late(values: Iterator[Value]) -> Iterator[Value]:
    """The same, each after the next has been made: that is computed while this one is read."""
    last: list[Value] = []
    for value in values:
        yield from last
        last = [value]
    yield from last


def _turn(codec: Codec) -> AbstractContextManager[None]:
    """A turn of the device where launches must not run at once; else the thread's own stream."""
    return turn() if codec.fused else nullcontext()


def _check(finite: mx.array, what: str) -> None:
    if not finite.item():
        raise ModelOverflowError(what, fixed=True)
