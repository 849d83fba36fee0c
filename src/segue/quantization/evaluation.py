"""What a quantization loses, and whether music is what a model expects: one pass over windows.

Of a model, only what its heads read and the heads themselves are kept; logits exist for a few rows
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoints.config import LMConfig
from .calibration import Window
from .forward import Forward
from .weights import Weight
from .windows import Windows

CONTEXT_FRAMES = 50
"""At the start of a window, which do not count; or half of a shorter window."""

FOREIGN = 0.7
"""Nats by which music may surprise a model more than the model expects to be surprised.  Its own
takes do by about nothing."""


@dataclass(frozen=True, eq=False)
class Distributions:
    """A model's distributions over the codes of some windows.

    Attributes:
        last: of each window, what the heads read `(S, dim)`.
        heads: `(K, V, dim)`.
    """

    last: tuple[np.ndarray, ...]
    heads: np.ndarray

    @classmethod
    def of(cls, config: LMConfig, weight: Weight, windows: Windows) -> Distributions:
        """Run a model over windows."""
        forward = Forward(config, weight)
        last = forward.last(forward.through(forward.start(windows)))
        edges = np.cumsum([len(tokens) for tokens in windows.tokens])[:-1]
        heads = forward.head().reshape(config.num_codebooks, -1, config.dim)
        return cls(tuple(np.split(last, edges)), heads)

    def log_softmax(self, window: int, k: int, rows: slice) -> np.ndarray:
        """Return log-probabilities `(rows, V)` of codebook `k`."""
        logits: np.ndarray = self.last[window][rows] @ self.heads[k].T
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits


def divergence(
    config: LMConfig, baseline: Distributions, variant: Distributions, context: int = CONTEXT_FRAMES
) -> np.ndarray:
    """Return KL(baseline ‖ variant) of each window `(N,)`: nats per code, over those that count."""
    found = []
    for n, last in enumerate(baseline.last):
        parts = []
        for k, rows in enumerate(counted(config, len(last), context)):
            p, q = (model.log_softmax(n, k, rows) for model in (baseline, variant))
            parts.append((np.exp(p) * (p - q)).sum(axis=-1).mean())
        found.append(np.mean(parts))
    return np.array(found)


def surprise(
    config: LMConfig, model: Distributions, windows: Sequence[Window]
) -> tuple[float, float]:
    """Return how much codes surprise a model, and how much it expects: nats per code.

    The first is the mean of `-log p` of the codes, perplexity's logarithm; the second the mean
    entropy of what the model predicts.  Of music like its own both are alike.
    """
    met, expected = [], []
    for n, window in enumerate(windows):
        for k, rows in enumerate(counted(config, len(model.last[n]), CONTEXT_FRAMES)):
            p = model.log_softmax(n, k, rows)
            codes = window.codes[k, -len(p) :]
            met.append(-np.take_along_axis(p, codes[:, None], axis=1).mean())
            expected.append(-(np.exp(p) * p).sum(axis=-1).mean())
    return float(np.mean(met)), float(np.mean(expected))


def foreign_note(met: float, expected: float) -> str | None:
    """Return a line on music that a model does not expect; None if it does. See `surprise`."""
    if met - expected <= FOREIGN:
        return None
    return (
        f"this music surprises the model by {met:.2f} nats a code, where it expects "
        f"{expected:.2f}: what is calibrated on it may lose on what the model plays; "
        "--self-takes adds the model's own"
    )


def counted(config: LMConfig, columns: int, context: int) -> list[slice]:
    """For each codebook, the columns after which codes stand that count."""
    frames = columns - max(config.delays) - 1
    first = min(context, frames // 2)
    return [slice(late + first, late + frames) for late in config.delays]
