"""A decode step whose rows belong to different requests: positions, sampling and text per row.

A row is one stream of one take.  Every row draws a token; the two rows of a guided take mix the
same logits with the same noise, and so draw the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ...pattern import UNKNOWN
from . import kernels
from .cache import Cache
from .kernels import ATTEND, CODEC, NAMES, SAMPLE
from .lm import LM, Layer
from .lookups import entry
from .sampling import Sampler
from .step import Step

PER_ROW: frozenset[str] = frozenset(NAMES) - CODEC
"""The kernels that run where rows have positions of their own: they all take them."""


@dataclass(frozen=True)
class RowSampler:
    """What of all rows' samplings shapes the graph.

    Attributes:
        top_k, top_p: as in `Sampler`, where both are the same for all rows; None and 0 where rows
            have their own.
        guided: whether any row is one of two streams.
        noisy: whether noise takes part in any row.
    """

    top_k: int | None
    guided: bool
    noisy: bool
    top_p: float = 0.0

    @classmethod
    def of(cls, samplers: Iterable[Sampler]) -> RowSampler:
        """The sampler of rows that are sampled so."""
        several = set(samplers)
        kinds = {(sampler.top_k, sampler.top_p) for sampler in several}
        top_k, top_p = kinds.pop() if len(kinds) == 1 else (None, 0.0)
        guided = any(sampler.guided for sampler in several)
        return cls(top_k, guided, any(sampler.noisy for sampler in several), top_p)


class RowControls(NamedTuple):
    """The numbers of each row.

    Attributes:
        temperature: `(B, 1, 1)` float32; 1 where the likeliest token is taken.
        coef: `(B, 1, 1)` float32 of guidance; any number where there is none.
        top_k: `(B, 1, 1)` int32: 1 to V.
        top_p: `(B, 1, 1)` float32; 0 where `top_k` counts.
        conditioned, unconditioned: `(B,)` int32, the rows of the two streams of a row's take; both
            are the row itself where there is no guidance.
    """

    temperature: mx.array
    coef: mx.array
    top_k: mx.array
    top_p: mx.array
    conditioned: mx.array
    unconditioned: mx.array


class RowStep(Step):
    """One decode step of rows that have nothing in common but the model.

    Args:
        lm: the model.
        sampler: how tokens are sampled.
        kernels_on: see `Step`; those that take no positions per row (see `PER_ROW`) are left out.

    Attributes:
        kernels_on: those that are on.
    """

    def __init__(
        self, lm: LM, sampler: RowSampler, kernels_on: frozenset[str] = frozenset()
    ) -> None:
        # To the parts that rows share with other steps, each row is a take without guidance.
        super().__init__(lm, Sampler(sampler.top_k or 0, guided=False), kernels_on & PER_ROW)
        self.kernels_on = kernels_on & PER_ROW
        self._rows = sampler
        self._unused = mx.zeros((1,))

    def __call__(  # type: ignore[override]  # rows have other arguments than takes
        self,
        tokens: mx.array,
        known: mx.array,
        position: mx.array,
        mask: mx.array | None,
        gumbel: mx.array | None,
        controls: RowControls,
        cache: Cache,
        cross: mx.array | None,
        text_mask: mx.array | None,
    ) -> tuple[mx.array, Cache]:
        """Run one decode step and return the next tokens.

        Args:
            tokens: `(B, K)` int32, of each row the column at its position.
            known: `(B, K)` int32 of the column after it, `UNKNOWN` where it is to be sampled.
            position: `(B,)` int32, how many columns of each row are in the cache.
            mask: `(B, 1, 1, L)`, true for the columns that a row attends to; None with the kernel
                `attend`, which needs none.
            gumbel: noise `(B, K, V)`, or its keys, or None where no row needs any.
            controls: the numbers that tokens are sampled with.
            cache: of B rows.
            cross: `(layers, 2, B, H, T, D)`, keys and values of each row's text, zeros where it
                has none; None where no row has any.
            text_mask: `(B, 1, 1, T)`, true for the tokens that a row has.

        Returns:
            The next column `(B, K)` int32, and the cache with this one in it.
        """
        x = self.embed(tokens, position)
        texts = None
        if cross is not None and text_mask is not None:
            texts = [(kv[0], kv[1], text_mask) for kv in cross]
        logits, new = self.logits_after(x, position, mask, cache, texts)
        return self.sample_rows(logits, known, gumbel, controls), new

    @property
    def makes_noise(self) -> bool:
        """See `Step.makes_noise`; not where rows have top-k or top-p of their own."""
        rows = self._rows
        return SAMPLE in self.kernels_on and rows.top_k is not None and not rows.top_p

    def attend(
        self,
        layer: Layer,
        qkv: mx.array,
        kv: mx.array,
        position: mx.array,
        mask: mx.array | None,
    ) -> tuple[mx.array, mx.array]:
        """See `Step.attend`; each row is written at its own position."""
        if ATTEND in self.kernels_on:
            return super().attend(layer, qkv, kv, position, mask)
        B, _, H, _, D = kv.shape
        qkv = qkv.reshape(B, 3, H, 1, D)
        at = mx.broadcast_to(position.reshape(B, 1, 1, 1, 1), (B, 2, H, 1, D))
        kv = mx.put_along_axis(kv, at, qkv[:, 1:], axis=3)
        y = mx.fast.scaled_dot_product_attention(
            qkv[:, 0], kv[:, 0], kv[:, 1], scale=layer.self_attn.scale, mask=mask
        )
        return y.reshape(B, -1), kv

    def sample_rows(
        self, logits: mx.array, known: mx.array, gumbel: mx.array | None, controls: RowControls
    ) -> mx.array:
        """Tokens `(B, K)` of the next column: `known` where they are, sampled elsewhere."""
        if self.makes_noise:
            partners = controls.conditioned, controls.unconditioned
            return kernels.sample(
                logits,
                gumbel,
                known,
                controls.temperature.reshape(-1),
                controls.coef.reshape(-1),
                self._rows.top_k or 0,
                self._rows.guided,
                partners if self._rows.guided else None,
            )
        if self._rows.guided:
            # Where a row is its own partner, this adds 0 times any number.
            conditioned = logits[controls.conditioned]
            unconditioned = logits[controls.unconditioned]
            logits = unconditioned + (conditioned - unconditioned) * controls.coef
        if self._rows.top_k is not None:
            sampler = Sampler(self._rows.top_k, guided=False, top_p=self._rows.top_p)
            sampled = sampler(logits, gumbel, (controls.temperature, self._unused))
        else:
            sampled = _mixed(logits, gumbel, controls)
        return mx.where(known == UNKNOWN, sampled, known)


def _mixed(logits: mx.array, gumbel: mx.array | None, controls: RowControls) -> mx.array:
    """What `Sampler` samples, where each row has its own top-k or top-p."""
    V = logits.shape[-1]
    likeliest = mx.argmax(logits, axis=-1)
    sampled = likeliest
    if gumbel is not None:
        order = mx.argsort(-logits, axis=-1)
        scores = mx.take_along_axis(logits, order, -1) / controls.temperature
        shares = mx.softmax(scores, axis=-1)
        reached = mx.cumsum(shares, axis=-1) - shares <= controls.top_p
        taking_part = mx.where(controls.top_p > 0, reached, mx.arange(V) < controls.top_k)
        scores = scores + mx.take_along_axis(gumbel, order, -1)
        best = mx.argmax(mx.where(taking_part, scores, -math.inf), axis=-1, keepdims=True)
        drawn = mx.take_along_axis(order, best, axis=-1).squeeze(-1)
        sampled = mx.where(controls.top_k[..., 0] == 1, likeliest, drawn)
    finite = mx.abs(logits.sum(axis=-1)) < math.inf
    return mx.where(finite, sampled.astype(mx.int32), V)


def row_controls(numbers: np.ndarray, partners: np.ndarray) -> RowControls:
    """Controls on the device.

    Args:
        numbers: `(4, B)` float32: temperature, guidance coefficient, top-k, top-p.
        partners: `(2, B)`: the conditioned and the unconditioned row.
    """
    # Two arrays, of which these are parts: each that is sent to a GPU costs the host time.
    real = mx.array(numbers[[0, 1, 3]].astype(np.float32))
    whole = mx.array(np.concatenate([numbers[2:3], partners]).astype(np.int32))
    return RowControls(
        temperature=entry(real, 0).reshape(-1, 1, 1),
        coef=entry(real, 1).reshape(-1, 1, 1),
        top_k=entry(whole, 0).reshape(-1, 1, 1),
        top_p=entry(real, 2).reshape(-1, 1, 1),
        conditioned=entry(whole, 1),
        unconditioned=entry(whole, 2),
    )
