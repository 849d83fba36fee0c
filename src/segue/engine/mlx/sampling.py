"""Sampling tokens from logits, inside the graph.

A token is the argmax of logits plus Gumbel noise, which samples from their softmax exactly
(https://arxiv.org/abs/1411.0030).  The noise is made for the whole vocabulary from (seed, step)
alone: two variants of a model with one seed share it, and differ only where their logits do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...pattern import UNKNOWN
from ..base import Sampling
from .lookups import entry

Controls = tuple[mx.array, mx.array]
"""Temperature and guidance coefficient: the arguments of a step that need no compilation anew."""

NOISE_BYTES = 4 << 20
"""Of noise that is made at once: 128 steps of one mono take."""


def controls(sampling: Sampling) -> Controls:
    """The numbers of a request as arrays."""
    coef = 0.0 if sampling.guidance_coef is None else sampling.guidance_coef
    return mx.array(sampling.temperature), mx.array(coef)


@dataclass(frozen=True)
class Sampler:
    """What of a `Sampling` shapes the graph, and so needs a compilation of its own.

    Attributes:
        top_k: as in `Sampling`; 1 where the temperature is 0, 0 where there is `top_p`.
        guided: whether there are two streams.
        top_p: as in `Sampling`.
    """

    top_k: int
    guided: bool
    top_p: float = 0.0

    @classmethod
    def of(cls, sampling: Sampling) -> Sampler:
        """The sampler for a request."""
        guided = sampling.guidance_coef is not None
        if sampling.greedy:
            return cls(1, guided)
        return cls(0 if sampling.top_p else sampling.top_k, guided, sampling.top_p)

    @property
    def noisy(self) -> bool:
        """Whether noise takes part; the likeliest token needs none."""
        return self.top_k != 1

    def __call__(self, logits: mx.array, gumbel: mx.array | None, controls: Controls) -> mx.array:
        """Tokens `(N, K)` int32, 0 to V - 1; V where logits are NaN or infinite.

        V is the special token, which is never sampled otherwise, so that it reports an overflow to
        the host; and the steps that are under way meanwhile can embed it as any other.

        Args:
            logits: `(N, K, V)`, or `(2N, K, V)` with the conditioned stream first.
            gumbel: `(N, K, V)` from `Noise`, or None where none is needed.
            controls: see `controls`.
        """
        temperature, coef = controls
        if self.guided:
            cond, uncond = mx.split(logits, 2)
            logits = uncond + (cond - uncond) * coef
        # A sum is one reduction, finite only if all of its terms are; no comparison holds of NaN.
        finite = mx.abs(logits.sum(axis=-1)) < math.inf
        return mx.where(finite, self._sample(logits, gumbel, temperature), logits.shape[-1])

    def _sample(self, logits: mx.array, gumbel: mx.array | None, temperature: mx.array) -> mx.array:
        """Tokens `(N, K)` int32 of finite logits `(N, K, V)`, guidance done."""
        V = logits.shape[-1]
        if gumbel is None:
            return mx.argmax(logits, axis=-1).astype(mx.int32)
        if self.top_p:
            order = mx.argsort(-logits, axis=-1)
            scores = mx.take_along_axis(logits, order, -1) / temperature
            shares = mx.softmax(scores, axis=-1)
            before = mx.cumsum(shares, axis=-1) - shares
            scores = scores + mx.take_along_axis(gumbel, order, -1)
            best = mx.argmax(mx.where(before > self.top_p, -math.inf, scores), -1, keepdims=True)
            return mx.take_along_axis(order, best, axis=-1).squeeze(-1).astype(mx.int32)
        if not 0 < self.top_k < V:
            return mx.argmax(logits / temperature + gumbel, axis=-1).astype(mx.int32)
        # A partition has exactly k entries at its end, also where logits tie.
        top = mx.argpartition(logits, V - self.top_k, axis=-1)[..., V - self.top_k :]
        scores = mx.take_along_axis(logits, top, -1) / temperature
        scores = scores + mx.take_along_axis(gumbel, top, -1)
        best = mx.argmax(scores, axis=-1, keepdims=True)
        return mx.take_along_axis(top, best, axis=-1).squeeze(-1).astype(mx.int32)


def next_tokens(
    sampler: Sampler,
    logits: mx.array,
    known: mx.array,
    gumbel: mx.array | None,
    controls: Controls,
) -> mx.array:
    """Tokens `(N, K)` int32 of the next column: `known` where they are, sampled elsewhere."""
    return mx.where(known == UNKNOWN, sampler(logits, gumbel, controls), known)


class Noise:
    """Gumbel noise of consecutive steps, made for many at once: that costs no more launches.

    A step that makes it itself is given its keys, a seed and the step's number for each take.

    Args:
        seeds: of the N takes.
        shape: `(K, V)`.
        start, stop: the numbers of the first step and of the one after the last.
        keys: whether `of` gives keys.
    """

    def __init__(
        self,
        seeds: tuple[int, ...],
        shape: tuple[int, int],
        start: int,
        stop: int,
        keys: bool = False,
    ) -> None:
        self._seeds, self._shape, self._stop = np.array(seeds, np.uint32), shape, stop
        bytes_a_step = 4 * len(seeds) * (2 if keys else shape[0] * shape[1])
        self._steps, self._keys = max(1, NOISE_BYTES // bytes_a_step), keys
        self._begin, self._made = start, self._make(start)

    def _make(self, start: int) -> mx.array:
        """Noise `(steps, N, K, V)` float32 from step `start` on, or keys `(steps, N, 2)`."""
        steps = np.arange(start, min(start + self._steps, self._stop), dtype=np.uint32)
        if self._keys:
            return keys_of(self._seeds, steps[:, None])
        takes = len(self._seeds)
        made = noise(
            mx.array(np.tile(self._seeds, len(steps))),
            mx.array(np.repeat(steps, takes)),
            *self._shape,
        )
        return made.reshape(len(steps), takes, *self._shape)

    def of(self, step: int) -> mx.array:
        """Noise `(N, K, V)` float32 of a step, or keys `(N, 2)`; steps are requested in order."""
        if step - self._begin >= self._made.shape[0]:
            self._begin, self._made = step, self._make(step)
        return entry(self._made, step - self._begin)


def keys_of(seeds: np.ndarray, steps: np.ndarray) -> mx.array:
    """Keys of noise `(..., 2)` uint32 for pairs of a seed and a step."""
    pairs = np.broadcast_arrays(seeds.astype(np.uint32), steps.astype(np.uint32))
    return mx.array(np.stack(pairs, axis=-1))


def noise(seeds: mx.array, steps: mx.array, K: int, V: int) -> mx.array:
    """Gumbel noise `(N, K, V)` float32 for N pairs of a seed and a step, both uint32.

    The pair is the key of MLX's counter-based generator (Threefry), so that no state goes from step
    to step, and a take has the same noise alone and in a batch.
    """
    keys = mx.stack([seeds, mx.broadcast_to(steps, seeds.shape)], axis=-1)
    return mx.vmap(lambda key: mx.random.gumbel((K, V), key=key))(keys)
