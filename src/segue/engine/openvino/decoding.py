"""Prefill, and the decode loop: one step after the other, each of them one call of the graph.

Each run has a cache and an inference request of its own, so threads may run several at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN, first_unknown
from ..base import Sampling
from .lm import LM, CrossKV, Prefix, Run
from .sampling import sample


@dataclass(frozen=True)
class Prefilled:
    """A sequence of which the known start has been consumed.

    Attributes:
        run: the cache, and the graph that fills it.
        begin: the number of the first column with an unknown entry.
        columns: `(N, S, K)` int32, `UNKNOWN` where the model fills in.
        rows: `(B,)`, the cache's row that each row of the batch goes on with in the first step.
        tokens: `(N, K)` int32, column `begin`; empty if there is none.
        before: positions in the cache before column 0.
    """

    run: Run
    begin: int
    columns: np.ndarray
    rows: np.ndarray
    tokens: np.ndarray
    before: int = 0


def prefill(
    *,
    lm: LM,
    sequence: np.ndarray,
    seeds: tuple[int, ...],
    sampling: Sampling,
    cross: CrossKV | None,
    prefix: Prefix | None,
    first_step: int,
) -> Prefilled:
    """Run the known start of a sequence through the model, and sample the column after it.

    Args:
        lm: the model.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is run once,
            and its keys and values are repeated.
        seeds: of the N takes.
        sampling: how tokens are sampled.
        cross: of one text, or None.
        prefix: of a melody model, else None.
        first_step: the number of the first column.

    Raises:
        ModelOverflowError: logits are NaN or infinite.
    """
    guided = sampling.guidance_coef is not None
    begin, starts, takes = first_unknown(sequence), len(sequence), len(seeds)
    columns = sequence.transpose(0, 2, 1)  # (starts, S, K)
    run = lm.run(_of_batch(cross, starts, guided))
    try:
        prompt = streams_of(columns[:, :begin], guided)
        before = 0 if prefix is None else prefix.length
        hidden = lm.embed(prompt, before)
        if prefix is not None:
            hidden = prefix.before(hidden, guided)
        logits = run(hidden, np.arange(len(prompt), dtype=np.int32))
        # Each row of the batch goes on with its own row of the cache from here on.
        rows = streams_of(np.arange(takes) if starts == takes else np.zeros(takes, int), guided)
        if guided:
            rows[takes:] += starts
        if starts < takes:
            logits, columns = logits[rows], np.repeat(columns, takes, axis=0)
            run.attend_to(_of_batch(cross, takes, guided))
        tokens = np.zeros(0, np.int32)
        if begin < columns.shape[1]:
            tokens = next_tokens(
                logits, columns[:, begin], first_step + begin, seeds=seeds, sampling=sampling
            )
    except ModelOverflowError:
        run.release()
        raise
    return Prefilled(run, begin, columns, rows.astype(np.int32), tokens, before)


def decode(
    *,
    lm: LM,
    start: Prefilled,
    seeds: tuple[int, ...],
    sampling: Sampling,
    first_step: int,
) -> Iterator[np.ndarray]:
    """Run one step after the other, and yield the columns that they sample.

    It may be dropped at any time.

    Args:
        lm: the model.
        start: from `prefill`.
        seeds: see there.
        sampling: see there.
        first_step: see there.

    Yields:
        Columns `(N, K)` int32 from `start.begin` to the last.

    Raises:
        ModelOverflowError: logits are NaN or infinite.
    """
    guided = sampling.guidance_coef is not None
    tokens, rows = start.tokens, start.rows
    try:
        for column in range(start.begin, start.columns.shape[1]):
            yield tokens
            if column + 1 < start.columns.shape[1]:
                hidden = lm.embed(streams_of(tokens, guided)[:, None], start.before + column)
                tokens = next_tokens(
                    start.run(hidden, rows),
                    start.columns[:, column + 1],
                    first_step + column + 1,
                    seeds=seeds,
                    sampling=sampling,
                )
                rows = np.arange(len(rows), dtype=np.int32)
    finally:
        start.run.release()


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
        logits: `(B, 1, K * V)` float32 of each stream.
        known: `(N, K)` of the column.
        step: its number for the noise.
        seeds: of the takes.
        sampling: how.
    """
    per_codebook = logits[:, -1].reshape(len(logits), known.shape[1], -1)
    sampled = sample(per_codebook, step, seeds, sampling)
    return np.where(known == UNKNOWN, sampled, known).astype(np.int32)


def streams_of(rows: np.ndarray, guided: bool) -> np.ndarray:
    """The rows that the model runs for those of the takes: conditioned, then unconditioned."""
    return np.concatenate([rows, rows]) if guided else rows.copy()


def _of_batch(cross: CrossKV | None, takes: int, guided: bool) -> CrossKV | None:
    """Cross-attention's keys and values for a batch: one text for all takes.

    The unconditioned stream attends to zeros, which add nothing.
    """
    if cross is None:
        return None

    def batch(x: np.ndarray) -> np.ndarray:
        rows = np.repeat(x, takes, axis=0)
        return np.concatenate([rows, np.zeros_like(rows)]) if guided else rows

    return [(batch(k), batch(v)) for k, v in cross]
