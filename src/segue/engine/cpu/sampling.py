"""Sampling tokens from logits, on the host.

A token is the argmax of logits plus Gumbel noise, which samples from their softmax exactly
(https://arxiv.org/abs/1411.0030).  The noise is that of the MLX engine, number by number: MLX's
counter-based generator (Threefry, https://doi.org/10.1145/2063384.2063405) with (seed, step) as its
key, so that a take has the same noise alone and in a batch, and on both engines.  Only the noise of
the tokens that take part is computed.
"""

from __future__ import annotations

import numpy as np

from ...pattern import UNKNOWN
from ..base import Sampling, check_finite

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def next_tokens(
    logits: np.ndarray,
    known: np.ndarray,
    step: int,
    *,
    seeds: tuple[int, ...],
    sampling: Sampling,
) -> np.ndarray:
    """Tokens `(N, K)` int32 of the next column: `known` where they are, sampled elsewhere.

    Args:
        logits: `(B, K * V)` float32 of each stream.
        known: `(N, K)` of the column.
        step: its number for the noise.
        seeds: of the takes.
        sampling: how.

    Raises:
        ModelOverflowError: a logit is NaN or infinite.
    """
    per_codebook = logits.reshape(len(logits), known.shape[1], -1)
    sampled = sample(per_codebook, step, seeds, sampling)
    return np.where(known == UNKNOWN, sampled, known).astype(np.int32)


def sample(logits: np.ndarray, step: int, seeds: tuple[int, ...], sampling: Sampling) -> np.ndarray:
    """Tokens `(N, K)` int32.

    Args:
        logits: `(N, K, V)` float32, or `(2N, K, V)` with the conditioned stream first.
        step: the number of the column that is sampled.
        seeds: of the takes.
        sampling: how.

    Raises:
        ModelOverflowError: a logit is NaN or infinite.
    """
    check_finite(logits, "logits")
    if sampling.guidance_coef is not None:
        cond, uncond = logits[: len(seeds)], logits[len(seeds) :]
        logits = uncond + (cond - uncond) * np.float32(sampling.guidance_coef)
    K, V = logits.shape[1:]
    if sampling.greedy:
        likeliest: np.ndarray = logits.argmax(axis=-1)
        return likeliest.astype(np.int32)
    if sampling.top_p:
        top = np.argsort(-logits, axis=-1, kind="stable")
        logits = np.take_along_axis(logits, top, axis=-1)
    elif 0 < sampling.top_k < V:
        # A partition has exactly k entries at its end, also where logits tie.
        top = np.argpartition(logits, V - sampling.top_k, axis=-1)[..., V - sampling.top_k :]
        logits = np.take_along_axis(logits, top, axis=-1)
    else:
        top = np.broadcast_to(np.arange(V), logits.shape)
    at = top + V * np.arange(K)[:, None]
    noise = gumbel(np.array(seeds, np.uint32)[:, None, None], step, K * V, at)
    with np.errstate(over="ignore"):  # near 0 temperature makes infinities, the likeliest of all
        scaled = logits / np.float32(sampling.temperature)
        scores = scaled + noise
    if sampling.top_p:
        shares = np.exp(scaled - scaled[..., :1])
        shares /= shares.sum(axis=-1, keepdims=True)
        scores[np.cumsum(shares, axis=-1) - shares > np.float32(sampling.top_p)] = -np.inf
    best = scores.argmax(axis=-1, keepdims=True)
    return np.take_along_axis(top, best, axis=-1)[..., 0].astype(np.int32)


def gumbel(seed: int | np.ndarray, step: int, size: int, at: np.ndarray) -> np.ndarray:
    """The entries `at` of the `size` numbers of Gumbel noise that belong to (seed, step).

    Seeds may be several, uint32 of a shape that `at` is broadcast with: one call for all takes.
    """
    uniform = random_words(seed, step, size, at).astype(np.float32) / np.float32(2**32)
    with np.errstate(divide="ignore"):
        noise: np.ndarray = -np.log(-np.log(np.minimum(uniform, BELOW_ONE)))
    return noise


def random_words(seed: int | np.ndarray, step: int, size: int, at: np.ndarray) -> np.ndarray:
    """The entries `at` of MLX's `size` random words uint32 for the key (seed, step).

    MLX hashes the counters i and i + size / 2 together, and keeps the first of the two words for
    entry i, the second for the other; of an odd number the middle one is hashed alone.
    """
    half, odd = divmod(size, 2)
    low = np.where(at < half + odd, at, at - (half + odd))
    high = np.where(low == half, 0, low + half + odd)
    first, second = threefry(seed, step, low.astype(np.uint32), high.astype(np.uint32))
    return np.where(at < half + odd, first, second)


def threefry(
    key0: int | np.ndarray, key1: int, count0: np.ndarray, count1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 with 20 rounds of the counters (count0, count1)."""
    keys = [np.asarray(key, np.uint32) for key in (key0, key1, key0 ^ key1 ^ 0x1BD11BDA)]
    x, y = count0 + keys[0], count1 + keys[1]
    for n in range(5):
        for rotation in ROTATIONS[n % 2]:
            x += y
            rotated = y << np.uint32(rotation)
            y >>= np.uint32(32 - rotation)
            y |= rotated
            y ^= x
        x += keys[(n + 1) % 3]
        y += keys[(n + 2) % 3]
        y += np.uint32(n + 1)
    return x, y
