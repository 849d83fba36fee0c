"""Both models are given the codes of real music: how far apart are their distributions?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...audio import Audio
from ...engine.base import Engine, check_finite
from ...pattern import delay
from ...request import Request
from .baselines import key_of
from .clips import windows
from .divergence import BLOCK_FRAMES, Bootstrap, Tokens, compare, concatenated, summarise
from .judge import Piece
from .request import Measurement

CONTEXT_FRAMES = 50
"""Frames at the start of a window that are context alone and not counted, or half of a shorter
window.  Nobody continues less than a second of music, and what a model predicts without context
shows its training more than its quantization."""

_STORED = ("codes", "logits")

Origin = dict[str, Any]
Load = Callable[[], Engine]


@dataclass(frozen=True)
class Window:
    """A window whose baseline is in the cache.

    Attributes:
        key: of its entry, without text or with the request's.
        text: words that describe it; empty if there are none, or if the request has its own.
        described: the key of the baseline's logits with them.
    """

    key: str
    text: str = ""
    described: str = ""


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


def cache_clip(
    work: Measurement,
    origin: Origin,
    described: Origin | None,
    clip: Audio,
    text: str,
    baseline: Load,
) -> list[Window]:
    """Make sure that the cache holds the baseline's logits for a clip, and return its windows.

    Args:
        work: what is measured.
        origin: from `baselines.origin_of`.
        described: the same with all prompts' words; None leaves these out.
        clip: at the codec's rate, with the model's channels.
        text: the words that describe it; empty for none.
        baseline: loads it, if need be.
    """
    found = []
    for samples in windows(
        clip.samples, work.config.codec.hop_length, work.config.lm.window_frames
    ):

        def encoded(samples: np.ndarray = samples) -> np.ndarray:
            return baseline().encode(samples)

        cache = _Cache(work, ("window", samples), encoded, baseline)
        found.append(cache.window(origin, described, text))
    return found


def cache_piece(
    work: Measurement, origin: Origin, described: Origin | None, piece: Piece, baseline: Load
) -> list[Window]:
    """Make sure that the cache holds the baseline's logits for a piece; see `cache_clip`."""
    cache = _Cache(work, ("piece", piece.codes), lambda: piece.codes, baseline)
    return [cache.window(origin, described, piece.text)]


@dataclass(frozen=True, eq=False)
class _Cache:
    """Entries for one window: what it is `made_of`, and how its codes come of that."""

    work: Measurement
    made_of: tuple[str, np.ndarray]
    encoded: Callable[[], np.ndarray]
    baseline: Load

    def window(self, origin: Origin, described: Origin | None, text: str) -> Window:
        key = self._key(origin, self.work.request.text)
        if described is None or not text:
            return Window(key)
        return Window(key, text, self._key(described, text, text))

    def _key(self, origin: Origin, words: str, *details: str) -> str:
        """The key of an entry with logits for these `words`, which is made if it is not there."""
        kind, values = self.made_of
        key = key_of(origin, kind, values, *details)
        if self.work.cache.read(key, _STORED) is None:
            codes = self.encoded()
            logits = _logits(self.baseline(), codes, words)
            self.work.cache.write(key, {"codes": codes, "logits": logits})
        return key


def _logits(engine: Engine, codes: np.ndarray, text: str) -> np.ndarray:
    conditioning = engine.condition(text) if text else None
    return check_finite(counted_logits(engine, codes, conditioning), "logits")


def compare_tokens(
    work: Measurement, windows: Sequence[Window], engine: Engine
) -> list[tuple[str, Tokens]]:
    """Compare the variant's logits for the windows of a prompt with the baseline's.

    Args:
        work: what is measured.
        windows: from `cache_clip` or `cache_piece`.
        engine: the variant.

    Returns:
        Condition and tokens of each window in each condition, `"plain"` first.
    """
    return [found for window in windows for found in _compared(work, window, engine)]


def summarise_tokens(found: Sequence[Sequence[tuple[str, Tokens]]]) -> dict[str, Any]:
    """Summarise what was compared.

    Args:
        found: of each prompt, from `compare_tokens`.

    Returns:
        `tokens`, `kl`, `top1_agreement`, `perplexity`, `conditions` and `blocks` of a
        `QualityReport`.
    """
    parts: dict[str, list[Tokens]] = {}
    frames: dict[str, list[list[int]]] = {}
    for n, of_a_prompt in enumerate(found):
        for condition, tokens in of_a_prompt:
            parts.setdefault(condition, []).append(tokens)
            lengths = frames.setdefault(condition, [])
            lengths += [[] for _ in range(n + 1 - len(lengths))]
            lengths[n].append(len(tokens))
    tables, blocks, counts = {}, dict[str, Any](), dict[str, Any]()
    for condition, each in parts.items():
        tokens = concatenated(each)
        lengths = [windows for windows in frames[condition] if windows]
        bootstrap = Bootstrap(lengths)
        tables[condition] = summarise(tokens, bootstrap)
        if condition == _PLAIN:
            K = tokens.kl.shape[1]
            counts = {
                "counted": tokens.kl.size,
                "frames": len(tokens),
                "codebooks": K,
                "windows": len(each),
                "context_frames": CONTEXT_FRAMES,
                "bootstrap_blocks": bootstrap.blocks,
                "bootstrap_block_frames": BLOCK_FRAMES,
            }
            blocks = {"frames": lengths, "tokens_per_frame": K}
        if lengths == blocks["frames"]:
            blocks["kl" if condition == _PLAIN else condition] = bootstrap.sums(tokens.kl).tolist()
    plain = tables.pop(_PLAIN)
    return {"tokens": counts, "conditions": tables, "blocks": blocks} | plain


_PLAIN = "plain"


def _compared(work: Measurement, window: Window, engine: Engine) -> Iterator[tuple[str, Tokens]]:
    """The tokens of a window in each condition: plain, and with text and guided if it has words."""
    stored = work.cache.entry(window.key, _STORED)
    codes = stored["codes"]
    counted = codes.T[context_of(codes.shape[1]) :]
    plain = _logits(engine, codes, work.request.text)
    yield _PLAIN, compare(stored["logits"], plain, counted)
    if not window.text:
        return
    described = work.cache.entry(window.described, _STORED)["logits"]
    text = _logits(engine, codes, window.text)
    yield "text", compare(described, text, counted)
    yield "guided", compare(_guided(stored["logits"], described), _guided(plain, text), counted)


def _guided(without: np.ndarray, with_text: np.ndarray) -> np.ndarray:
    """What a guided step draws from, at the coefficient that requests have by default."""
    guided: np.ndarray = without + (with_text - without) * np.float32(Request.guidance_coef)
    return guided
