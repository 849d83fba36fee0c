"""The decode loop: one step compiled once, fed with its own output, never waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN, first_unknown
from . import cache as kv_cache
from .lm import LM, CrossKV
from .sampling import Controls, Noise, Sampler
from .step import Step, next_tokens

LAG = 4
"""Steps that are under way while the host reads the tokens of an earlier one."""


class Decoding:
    """One continuation: the prompt is heard when it is made, then it is iterated.

    Args:
        lm: the model.
        step: from `make_step`, with the same sampler.
        sampler: how tokens are drawn.
        controls: the numbers it is told.
        seeds: of the N takes.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is heard
            once, and what was kept of it is repeated.
        cross: of one text, or None.
        first_step: the number of the first column.
        in_place: whether `step` writes the cache in place, which then has its whole length at once.
        together: columns that are read at a time.
    """

    def __init__(
        self,
        lm: LM,
        step: Step,
        sampler: Sampler,
        controls: Controls,
        seeds: tuple[int, ...],
        sequence: np.ndarray,
        cross: CrossKV | None,
        first_step: int,
        in_place: bool = False,
        together: int = 1,
    ) -> None:
        takes, starts = len(seeds), len(sequence)
        self._begin = begin = first_unknown(sequence)
        self._unknown = sequence.transpose(2, 0, 1) == UNKNOWN  # (S, starts, K)
        self._overflown = lm.config.cardinality
        self._step, self._controls = step, controls
        self._masks = None if in_place else kv_cache.Masks(lm.dtype)
        self._first_step, self._together = first_step, together
        self._noise: Noise | None = None
        if sampler.noisy:
            shape = lm.config.num_codebooks, lm.config.cardinality
            numbers = first_step + begin, first_step + sequence.shape[-1]
            self._noise = Noise(seeds, shape, *numbers)
        columns = mx.array(sequence.transpose(2, 0, 1))  # (S, starts, K)
        heard = columns[:begin].swapaxes(0, 1)
        rows = mx.concatenate([heard, heard]) if sampler.guided else heard
        hidden, cache = lm(
            rows,
            mx.array([0]),
            lm.empty_cache(len(rows), begin),
            _cross_of_batch(cross, starts, sampler.guided),
        )
        hidden = hidden[:, -1:]
        if starts < takes:
            hidden, cache = mx.repeat(hidden, takes, axis=0), kv_cache.repeated(cache, takes)
            columns = mx.repeat(columns, takes, axis=1)
        if in_place:
            missing = max(0, len(columns) - cache[0].shape[3])
            cache = [mx.contiguous(kv) for kv in kv_cache.grown(cache, missing)]
        self._columns, self._cache = columns, cache
        # Slices of one array: MLX keeps an array of one number in the host's memory, which every
        # kernel that reads it would wait for.
        self._places = mx.arange(len(columns))
        self._cross = step.folded(cross, takes) or _cross_of_batch(cross, takes, sampler.guided)
        logits = lm.logits(hidden)[:, 0]
        known = columns[begin]
        self._tokens = next_tokens(sampler, logits, known, self._gumbel(begin), controls)
        mx.eval(self._tokens, self._cache, self._cross, self._columns, self._places)

    def _gumbel(self, column: int) -> mx.array | None:
        return None if self._noise is None else self._noise.of(self._first_step + column)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The columns `(N, K)` from the first unknown one on, some steps behind the engine.

        Raises:
            ModelOverflowError: a column's logits are NaN or infinite.
        """
        for column, tokens in enumerate(self._read(), self._begin):
            # What is drawn then is read with what is drawn anyway, so that nothing waits for it.
            if ((tokens == self._overflown) & self._unknown[column]).any():
                raise ModelOverflowError("logits")
            yield tokens

    def _read(self) -> Iterator[np.ndarray]:
        """Columns as they are drawn, see `__iter__`."""
        drawn, under_way = [self._tokens], deque[tuple[int, mx.array]]()
        for column in range(self._begin + 1, len(self._columns)):
            if column > self._cache[0].shape[3]:
                self._cache = kv_cache.grown(self._cache)
            length = self._cache[0].shape[3]
            self._tokens, self._cache = self._step(
                self._tokens,
                self._columns[column],
                self._places[column - 1 : column],
                None if self._masks is None else self._masks.of(column - 1, length),
                self._gumbel(column),
                self._controls,
                self._cache,
                self._cross,
            )
            mx.async_eval(self._tokens)
            drawn.append(self._tokens)
            if len(drawn) >= self._together:
                under_way.append((column, _stacked(drawn)))
                drawn = []
            if under_way and under_way[0][0] + LAG <= column:
                yield from np.array(under_way.popleft()[1])
        for _, columns in under_way:
            yield from np.array(columns)
        yield from map(np.array, drawn)


def _stacked(columns: list[mx.array]) -> mx.array:
    """Columns `(C, N, K)`, on their way to the host."""
    stacked = columns[0][None] if len(columns) == 1 else mx.stack(columns)
    mx.async_eval(stacked)
    return stacked


def _cross_of_batch(cross: CrossKV | None, takes: int, guided: bool) -> CrossKV | None:
    """Cross-attention's keys and values for a batch: one text for all takes.

    The unconditioned stream attends to zeros, which add nothing.
    """
    if cross is None:
        return None

    def batch(x: mx.array) -> mx.array:
        rows = mx.repeat(x, takes, axis=0)
        return mx.concatenate([rows, mx.zeros_like(rows)]) if guided else rows

    return [(batch(k), batch(v)) for k, v in cross]
