"""How far one model's next-token distributions lie from another's, and how sure that is.

Everything is counted per token: one code of one codebook at one frame.  Sums run in float64 over
float32 logits, so that a model against itself differs by exactly nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK_FRAMES = 100
"""Frames of a bootstrap block: 2 s, a bar of 120 beats a minute."""

REPLICATES = 2000
BOOTSTRAP_SEED = 0
"""Intervals are part of the result, so their random numbers are too; the measurement's seed is not
theirs, or another seed would seem to change what was measured."""

_CHUNK = 64
"""Frames that are in float64 at a time: 4 MB for MusicGen's 4 × 2048 logits a frame."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities over the last axis, in float64, without overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


@dataclass(frozen=True, eq=False)
class Tokens:
    """Two models' predictions of the same codes, token by token; all are `(F, K)`.

    Attributes:
        kl: KL(baseline || variant) in nats.
        agree: whether the same code is the likeliest for both.
        baseline_nll, variant_nll: negative log-likelihood of the code that follows, in nats.
    """

    kl: np.ndarray
    agree: np.ndarray
    baseline_nll: np.ndarray
    variant_nll: np.ndarray

    def __len__(self) -> int:
        return len(self.kl)


def compare(baseline: np.ndarray, variant: np.ndarray, codes: np.ndarray) -> Tokens:
    """Compare two models' logits for the codes that they predict.

    KL(p || q) = Σ p (log p - log q), the form of the perplexity tool of llama.cpp; what rounding
    leaves below zero is zero.

    Args:
        baseline: logits `(F, K, V)`.
        variant: logits `(F, K, V)`.
        codes: `(F, K)`, 0 to V - 1.
    """
    F, K, _ = baseline.shape
    found = [np.zeros((F, K)) for _ in range(4)]
    for start in range(0, F, _CHUNK):
        part = slice(start, start + _CHUNK)
        log_p, log_q = log_softmax(baseline[part]), log_softmax(variant[part])
        code = codes[part, :, None]
        for all_, new in zip(
            found,
            (
                np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0.0),
                baseline[part].argmax(axis=-1) == variant[part].argmax(axis=-1),
                -np.take_along_axis(log_p, code, axis=-1)[..., 0],
                -np.take_along_axis(log_q, code, axis=-1)[..., 0],
            ),
            strict=True,
        ):
            all_[part] = new
    return Tokens(*found)


class Bootstrap:
    """Confidence intervals for means over tokens, which are not independent of each other.

    Neighbours resemble each other, and so do all tokens of one piece of music.  So what is drawn
    with replacement are prompts first, and then, for each prompt drawn, as many blocks of
    frames as it has, all codebooks together (Davison and Hinkley, Bootstrap Methods and
    their Application, 1997, sections 3.8 and 8.2).  The interval is that of the 2.5 % and 97.5 %
    quantiles over `REPLICATES` draws.  All statistics share the draws.

    Args:
        frames: for each prompt, how many frames each of its windows has.  Blocks do not reach from
            one window into the next; the last of a window may be shorter, and weighs less.
        block: frames of a block.
    """

    def __init__(self, frames: Sequence[Sequence[int]], block: int = BLOCK_FRAMES) -> None:
        starts: list[int] = []
        self.blocks_per_prompt = []
        position = 0
        for windows in frames:
            before = len(starts)
            for length in windows:
                starts += range(position, position + length, block)
                position += length
            self.blocks_per_prompt.append(len(starts) - before)
        self._starts, self.frames = np.array(starts), position
        random = np.random.default_rng(BOOTSTRAP_SEED)
        prompts = len(frames)
        drawn = random.multinomial(prompts, [1 / prompts] * prompts, size=REPLICATES)
        self._weights = np.concatenate(
            [
                random.multinomial(drawn[:, p] * blocks, [1 / blocks] * blocks)
                for p, blocks in enumerate(self.blocks_per_prompt)
            ],
            axis=1,
        ).astype(np.float64)

    @property
    def blocks(self) -> int:
        """How many blocks there are; the interval of a single one means nothing."""
        return len(self._starts)

    def mean(self, values: np.ndarray) -> tuple[float, list[float]]:
        """Return the mean of `values` `(F, ...)` over all tokens, and its 95 % interval."""
        return self.mean_of_sums(self.sums(values), values[0].size)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of `values` `(F, ...)` in each block, `(blocks,)`."""
        summed: np.ndarray = np.add.reduceat(
            values.reshape(len(values), -1).sum(axis=1, dtype=np.float64), self._starts
        )
        return summed

    def mean_of_sums(self, sums: np.ndarray, per_frame: int) -> tuple[float, list[float]]:
        """Return the mean over all tokens, and its 95 % interval, from what `sums` returned.

        Args:
            sums: `(blocks,)`; or the difference of two, whose draws are then the same.
            per_frame: tokens of a frame.
        """
        sizes = np.diff(np.append(self._starts, self.frames)) * per_frame
        # Not as a product of matrices: BLAS may sum in another order on another day.
        means = (self._weights * sums).sum(axis=1) / (self._weights * sizes).sum(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        return float(sums.sum() / sizes.sum()), [float(low), float(high)]


def summarise(tokens: Tokens, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the tables `kl`, `top1_agreement` and `perplexity` of a `QualityReport`."""
    columns = {"overall": slice(None)} | {
        f"codebook_{k}": slice(k, k + 1) for k in range(tokens.kl.shape[1])
    }
    tables: dict[str, Any] = {"kl": {}, "top1_agreement": {}, "perplexity": {}}
    for name, column in columns.items():
        kl = tokens.kl[:, column]
        mean, interval = bootstrap.mean(kl)
        tables["kl"][name] = {
            "mean": mean,
            "ci95": interval,
            "median": float(np.median(kl)),
            "p99": float(np.quantile(kl, 0.99)),
            "max": float(kl.max()),
        }
        mean, interval = bootstrap.mean(tokens.agree[:, column])
        tables["top1_agreement"][name] = {"mean": mean, "ci95": interval}
        baseline, variant = tokens.baseline_nll[:, column], tokens.variant_nll[:, column]
        # The mean of the differences, token by token: what both find hard cancels out.
        mean, interval = bootstrap.mean(variant - baseline)
        tables["perplexity"][name] = {
            "baseline": float(np.exp(bootstrap.mean(baseline)[0])),
            "variant": float(np.exp(bootstrap.mean(variant)[0])),
            "ratio": float(np.exp(mean)),
            "ci95": [float(np.exp(bound)) for bound in interval],
        }
    return tables


def concatenated(parts: Sequence[Tokens]) -> Tokens:
    """Join windows of tokens, one after the other."""
    return Tokens(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("kl", "agree", "baseline_nll", "variant_nll")
        )
    )


def frames_until_divergence(baseline: np.ndarray, variant: np.ndarray) -> int:
    """Return how many frames of codes `(K, F)` are equal before the first that differs."""
    differs = (baseline != variant).any(axis=0)
    return int(differs.argmax()) if differs.any() else len(differs)
