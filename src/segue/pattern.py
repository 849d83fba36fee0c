"""The delay pattern of MusicGen, as pure functions on arrays.

Codebook k is delayed by `delays[k]` steps (https://arxiv.org/abs/2306.05284, figure 1), behind one
column of special tokens that starts every sequence.  Mono checkpoints have the delays 0, 1, 2, 3;
stereo ones 0, 0, 1, 1, 2, 2, 3, 3, left and right together:

    column       0   1   2   3   4   5
    codebook 0   *   a0  a1  a2  *   *
    codebook 1   *   *   b0  b1  b2  *
    codebook 2   *   *   *   c0  c1  c2

F frames are `F + max(delays) + 1` columns, of which the first is never predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNKNOWN = -1
"""Marks a token in a sequence that is still to be generated."""


def delay(codes: np.ndarray, delays: Sequence[int], special: int) -> np.ndarray:
    """Lay codes out as a sequence, each codebook with its delay.

    Args:
        codes: `(..., K, F)`.
        delays: of the K codebooks, in steps.
        special: the token where there is no code.

    Returns:
        `(..., K, S)` with `S = F + max(delays) + 1`.
    """
    F = codes.shape[-1]
    sequence = np.full((*codes.shape[:-1], F + max(delays) + 1), special, codes.dtype)
    for k, late in enumerate(delays):
        sequence[..., k, late + 1 : late + 1 + F] = codes[..., k, :]
    return sequence


def undelay(sequence: np.ndarray, delays: Sequence[int]) -> np.ndarray:
    """Invert `delay`: take the codes `(..., K, F)` out of a `sequence` `(..., K, S)`."""
    F = sequence.shape[-1] - max(delays) - 1
    rows = [sequence[..., k, late + 1 : late + 1 + F] for k, late in enumerate(delays)]
    return np.stack(rows, axis=-2)


def first_unknown(sequence: np.ndarray) -> int:
    """Find the first column of `sequence` `(..., K, S)` with an unknown entry; S without one."""
    unknown = (sequence == UNKNOWN).any(axis=tuple(range(sequence.ndim - 1)))
    return int(unknown.argmax()) if unknown.any() else sequence.shape[-1]


def complete_frames(columns: int, delays: Sequence[int]) -> int:
    """Count the frames that are complete once the first `columns` columns are known."""
    return max(0, columns - max(delays) - 1)
