"""Drawing tokens from logits, inside the graph.

A token is the argmax of logits plus Gumbel noise, which draws from their softmax exactly
(https://arxiv.org/abs/1411.0030).  The noise is made for the whole vocabulary from (seed, step)
alone: two variants of a model with one seed share it, and differ only where their logits do.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..base import Sampling

Controls = tuple[mx.array, mx.array, mx.array]
"""Seeds `(N,)` uint32, temperature, guidance coefficient: what a step is told by value."""


def controls(sampling: Sampling, seeds: tuple[int, ...]) -> Controls:
    """The numbers of a request as arrays."""
    coef = 0.0 if sampling.guidance_coef is None else sampling.guidance_coef
    return mx.array(np.array(seeds, np.uint32)), mx.array(sampling.temperature), mx.array(coef)


@dataclass(frozen=True)
class Sampler:
    """What of a `Sampling` shapes the graph, and so needs a compilation of its own.

    Attributes:
        top_k: as in `Sampling`; 1 where the temperature is 0.
        guided: whether there are two streams.
    """

    top_k: int
    guided: bool

    @classmethod
    def of(cls, sampling: Sampling) -> Sampler:
        """The sampler for a request."""
        top_k = 1 if sampling.greedy else sampling.top_k
        return cls(top_k, sampling.guidance_coef is not None)

    def __call__(self, logits: mx.array, step: mx.array, controls: Controls) -> mx.array:
        """Tokens `(N, K)` int32.

        Args:
            logits: `(N, K, V)`, or `(2N, K, V)` with the conditioned stream first.
            step: `(1,)` uint32, the number of the column that is drawn.
            controls: see `controls`.
        """
        seeds, temperature, coef = controls
        if self.guided:
            cond, uncond = mx.split(logits, 2)
            logits = uncond + (cond - uncond) * coef
        K, V = logits.shape[1:]
        if self.top_k == 1:
            return mx.argmax(logits, axis=-1).astype(mx.int32)
        gumbel = noise(seeds, step, K, V)
        if not 0 < self.top_k < V:
            return mx.argmax(logits / temperature + gumbel, axis=-1).astype(mx.int32)
        # A partition has exactly k entries at its end, also where logits tie.
        top = mx.argpartition(logits, V - self.top_k, axis=-1)[..., V - self.top_k :]
        scores = mx.take_along_axis(logits, top, -1) / temperature
        scores = scores + mx.take_along_axis(gumbel, top, -1)
        best = mx.argmax(scores, axis=-1, keepdims=True)
        return mx.take_along_axis(top, best, axis=-1).squeeze(-1).astype(mx.int32)


def noise(seeds: mx.array, step: mx.array, K: int, V: int) -> mx.array:
    """Gumbel noise `(N, K, V)` float32 of one step.

    (seed, step) is the key of MLX's counter-based generator (Threefry), so that no state goes from
    step to step, and a take has the same noise alone and in a batch.
    """
    keys = mx.stack([seeds, mx.broadcast_to(step, seeds.shape)], axis=-1)
    return mx.vmap(lambda key: mx.random.gumbel((K, V), key=key))(keys)
