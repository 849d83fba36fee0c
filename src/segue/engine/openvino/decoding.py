"""The decode loop: one step after the other, each of them one call of the graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN, first_unknown
from ..base import Sampling
from .lm import LM, CrossKV
from .sampling import draw


class Decoding:
    """One continuation: the prompt is heard when it is made, then it is iterated.

    Args:
        lm: the model.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is heard
            once, and what was kept of it is repeated.
        seeds: of the N takes.
        sampling: how tokens are drawn.
        cross: of one text, or None.
        first_step: the number of the first column.
    """

    def __init__(
        self,
        lm: LM,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        cross: CrossKV | None,
        first_step: int,
    ) -> None:
        self._lm, self._seeds, self._sampling = lm, seeds, sampling
        self._guided = sampling.guidance_coef is not None
        self._first_step = first_step
        self._begin = first_unknown(sequence)
        starts, takes = len(sequence), len(seeds)
        columns = sequence.transpose(0, 2, 1)  # (starts, S, K)
        self._run = lm.run(_of_batch(cross, starts, self._guided))
        heard = self._streams(columns[:, : self._begin])
        logits = self._run(lm.embed(heard, 0), np.arange(len(heard), dtype=np.int32))
        # Each row of the batch goes on with its own row of the cache from here on.
        self._rows = self._streams(np.arange(takes) if starts == takes else np.zeros(takes, int))
        if self._guided:
            self._rows[takes:] += starts
        if starts < takes:
            logits, columns = logits[self._rows], np.repeat(columns, takes, axis=0)
            self._run.attend_to(_of_batch(cross, takes, self._guided))
        self._columns = columns
        try:
            self._tokens = self._next(logits, self._begin)
        except ModelOverflowError:
            self._run.release()
            raise

    def _streams(self, rows: np.ndarray) -> np.ndarray:
        """The rows that the model runs for those of the takes: conditioned, then unconditioned."""
        return np.concatenate([rows, rows]) if self._guided else rows.copy()

    def _next(self, logits: np.ndarray, column: int) -> np.ndarray:
        """Tokens `(N, K)` of `column`: as they are known, and drawn elsewhere."""
        if column == self._columns.shape[1]:
            return np.zeros(0, np.int32)
        K = self._columns.shape[2]
        drawn = draw(
            logits[:, -1].reshape(len(logits), K, -1),
            column + self._first_step,
            self._seeds,
            self._sampling,
        )
        known = self._columns[:, column]
        return np.where(known == UNKNOWN, drawn, known).astype(np.int32)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The columns `(N, K)` from the first unknown one to the last."""
        rows = self._rows.astype(np.int32)
        try:
            for column in range(self._begin, self._columns.shape[1]):
                yield self._tokens
                if column + 1 < self._columns.shape[1]:
                    hidden = self._lm.embed(self._streams(self._tokens)[:, None], column)
                    self._tokens = self._next(self._run(hidden, rows), column + 1)
                    rows = np.arange(len(rows), dtype=np.int32)
        finally:
            self._run.release()


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
