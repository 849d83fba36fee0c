"""Both models are given the codes of real music: how far apart are their distributions?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...audio import Audio
from ...engine.base import Engine, check_finite
from ...pattern import delay
from .baselines import key_of
from .clips import windows
from .divergence import BLOCK_FRAMES, Bootstrap, Tokens, compare, concatenated, summarise
from .request import Measurement

CONTEXT_FRAMES = 50
"""Frames at the start of a window that are context alone and not counted, or half of a shorter
window.  Nobody continues less than a second of music, and what a model predicts without context
shows its training more than its quantization."""

_STORED = ("codes", "logits")


def counted_logits(engine: Engine, codes: np.ndarray, conditioning: object = None) -> np.ndarray:
    """Return logits `(F - skipped, K, V)` for those codes of a window `(K, F)` that count.

    The delay is undone: the code of codebook k at frame f stands in column `delays[k] + 1 + f`, so
    it is predicted after the column before.  What is predicted for special tokens does not count.
    """
    lm, (_, F) = engine.config.lm, codes.shape
    logits = engine.logits(delay(codes, lm.delays, lm.special_token), conditioning)
    first = context_of(F)
    return np.stack([logits[late + first : late + F, k] for k, late in enumerate(lm.delays)], 1)


def context_of(frames: int) -> int:
    """Return how many frames at the start of a window of so many do not count."""
    return min(CONTEXT_FRAMES, frames // 2)


def cache_logits(
    work: Measurement, origin: dict[str, Any], clip: Audio, baseline: Callable[[], Engine]
) -> list[str]:
    """Make sure that the cache holds the baseline's logits for a clip.

    Args:
        work: what is measured.
        origin: from `baselines.origin_of`.
        clip: at the codec's rate, with the model's channels.
        baseline: loads it, if need be.

    Returns:
        The keys of its windows.
    """
    keys = []
    for window in windows(clip.samples, work.config.codec.hop_length, work.config.lm.window_frames):
        key = key_of(origin, "window", window)
        if work.cache.read(key, _STORED) is None:
            codes = baseline().encode(window)
            logits = _logits(work, baseline(), codes)
            work.cache.write(key, {"codes": codes, "logits": logits})
        keys.append(key)
    return keys


def _logits(work: Measurement, engine: Engine, codes: np.ndarray) -> np.ndarray:
    conditioning = engine.condition(work.request.text) if work.request.text else None
    return check_finite(counted_logits(engine, codes, conditioning), "logits")


def compare_tokens(
    work: Measurement, keys: Sequence[Sequence[str]], engine: Engine
) -> dict[str, Any]:
    """Compare the variant's logits for every window with the baseline's.

    Args:
        work: what is measured.
        keys: for each clip, from `cache_logits`.
        engine: the variant.

    Returns:
        `tokens`, `kl`, `top1_agreement` and `perplexity` of a `QualityReport`.
    """
    parts: list[Tokens] = []
    frames: list[list[int]] = []
    count = sum(map(len, keys))
    with work.progress.stage("compare distributions", count, "windows") as advance:
        for of_a_clip in keys:
            frames.append([])
            for key in of_a_clip:
                stored = work.cache.entry(key, _STORED)
                codes = stored["codes"]
                logits = _logits(work, engine, codes)
                counted = codes.T[context_of(codes.shape[1]) :]
                parts.append(compare(stored["logits"], logits, counted))
                frames[-1].append(len(counted))
                advance(len(parts))
    tokens, bootstrap = concatenated(parts), Bootstrap(frames)
    counts = {
        "counted": tokens.kl.size,
        "frames": len(tokens),
        "codebooks": tokens.kl.shape[1],
        "windows": count,
        "context_frames": CONTEXT_FRAMES,
        "bootstrap_blocks": bootstrap.blocks,
        "bootstrap_block_frames": BLOCK_FRAMES,
    }
    return {"tokens": counts} | summarise(tokens, bootstrap)
