"""Both models hear the codes of real music: how far apart are their next-token distributions?"""

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
from .request import Plan

CONTEXT_FRAMES = 50
"""Frames at the start of a window that are heard but not counted, or half of a shorter window.
Nobody continues less than a second of music, and what a model guesses without context says more
about its training than about quantization."""

_KEPT = ("codes", "logits")


def counted_logits(engine: Engine, codes: np.ndarray, conditioning: object = None) -> np.ndarray:
    """Logits `(F - skipped, K, V)` for those codes of a window `(K, F)` that count.

    The delay is undone: the code of codebook k at frame f stands in column `delays[k] + 1 + f`, so
    it is predicted after the column before.  What is predicted for special tokens does not count.
    """
    lm, (_, F) = engine.config.lm, codes.shape
    logits = engine.logits(delay(codes, lm.delays, lm.special_token), conditioning)
    first = context_of(F)
    return np.stack([logits[late + first : late + F, k] for k, late in enumerate(lm.delays)], 1)


def context_of(frames: int) -> int:
    """How many frames at the start of a window of so many do not count."""
    return min(CONTEXT_FRAMES, frames // 2)


def listen(
    plan: Plan, origin: dict[str, Any], heard: Audio, baseline: Callable[[], Engine]
) -> list[str]:
    """Make sure that the cache holds what the baseline thinks of a clip.

    Args:
        plan: what is measured.
        origin: from `baselines.origin_of`.
        heard: the clip.
        baseline: loads it, if need be.

    Returns:
        The keys of its windows.
    """
    keys = []
    for piece in windows(heard.samples, plan.config.codec.hop_length):
        key = key_of(origin, "window", piece)
        if plan.cache.read(key, _KEPT) is None:
            codes = baseline().encode(piece)
            logits = _logits(plan, baseline(), codes)
            plan.cache.write(key, {"codes": codes, "logits": logits})
        keys.append(key)
    return keys


def _logits(plan: Plan, engine: Engine, codes: np.ndarray) -> np.ndarray:
    conditioning = engine.condition(plan.text) if plan.text else None
    return check_finite(counted_logits(engine, codes, conditioning), "logits")


def compare_tokens(plan: Plan, keys: Sequence[Sequence[str]], engine: Engine) -> dict[str, Any]:
    """What the variant thinks of every window, beside what the baseline did.

    Args:
        plan: what is measured.
        keys: for each clip, from `listen`.
        engine: the variant.

    Returns:
        `tokens`, `kl`, `top1_agreement` and `perplexity`; see `segue.lab.quality.measure`.
    """
    parts: list[Tokens] = []
    frames: list[list[int]] = []
    count = sum(map(len, keys))
    with plan.progress.stage("compare distributions", count, "windows") as advance:
        for of_a_clip in keys:
            frames.append([])
            for key in of_a_clip:
                theirs = plan.cache.entry(key, _KEPT)
                codes = theirs["codes"]
                logits = _logits(plan, engine, codes)
                counted = codes.T[context_of(codes.shape[1]) :]
                parts.append(compare(theirs["logits"], logits, counted))
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
