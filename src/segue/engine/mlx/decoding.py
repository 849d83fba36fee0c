"""The decode loop: one step compiled once, fed with its own output, never waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np

from ...pattern import UNKNOWN, first_unknown
from . import cache as kv_cache
from .cache import Cache
from .lm import LM, CrossKV
from .sampling import Controls, Sampler

LAG = 4
"""Steps that are under way while the host reads the tokens of an earlier one."""

Step = Callable[..., tuple[mx.array, Cache]]


def make_step(lm: LM, sampler: Sampler, compiled: bool) -> Step:
    """The decode step: tokens of a column in, tokens of the next column out.

    Compiled, it is traced once for each shape of its arguments (batch, bucket, text length).
    """

    def step(
        tokens: mx.array,
        known: mx.array,
        column: mx.array,
        first_step: mx.array,
        controls: Controls,
        cache: Cache,
        cross: CrossKV | None,
    ) -> tuple[mx.array, Cache]:
        hidden, cache = lm(_streams(tokens, sampler)[:, None], column - 1, cache, cross)
        return _next_tokens(lm, sampler, hidden, known, column + first_step, controls), cache

    return mx.compile(step) if compiled else step


def _streams(tokens: mx.array, sampler: Sampler) -> mx.array:
    """The rows that the model runs for some takes: each twice with guidance, conditioned first."""
    return mx.concatenate([tokens, tokens]) if sampler.guided else tokens


def _next_tokens(
    lm: LM, sampler: Sampler, hidden: mx.array, known: mx.array, step: mx.array, controls: Controls
) -> mx.array:
    """Tokens `(N, K)` of the column after `hidden`: `known` where they are, drawn elsewhere."""
    drawn = sampler(lm.logits(hidden[:, -1:])[:, 0], step.astype(mx.uint32), controls)
    return mx.where(known == UNKNOWN, drawn, known)


class Decoding:
    """One continuation: the prompt is heard when it is made, then it is iterated.

    Args:
        lm: the model.
        step: from `make_step`, with the same sampler.
        sampler: how tokens are drawn.
        controls: the numbers it is told.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is heard
            once, and what was kept of it is repeated.
        cross: of one text, or None.
        first_step: the number of the first column.
    """

    def __init__(
        self,
        lm: LM,
        step: Step,
        sampler: Sampler,
        controls: Controls,
        sequence: np.ndarray,
        cross: CrossKV | None,
        first_step: int,
    ) -> None:
        takes, starts = controls[0].size, len(sequence)
        self._begin = begin = first_unknown(sequence)
        self._step, self._controls = step, controls
        self._first_step = mx.array([first_step])
        columns = mx.array(sequence.transpose(0, 2, 1))  # (starts, S, K)
        cache = lm.empty_cache(starts * (2 if sampler.guided else 1), begin)
        hidden, cache = lm(
            _streams(columns[:, :begin], sampler),
            mx.array([0]),
            cache,
            _cross_of_batch(cross, starts, sampler.guided),
        )
        if starts < takes:
            hidden, cache = (
                mx.repeat(hidden[:, -1:], takes, axis=0),
                kv_cache.repeated(cache, takes),
            )
            columns = mx.repeat(columns, takes, axis=0)
        self._columns, self._cache = columns, cache
        self._cross = _cross_of_batch(cross, takes, sampler.guided)
        step_number = self._first_step + begin
        self._tokens = _next_tokens(lm, sampler, hidden, columns[:, begin], step_number, controls)
        mx.eval(self._tokens, self._cache)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The columns `(N, K)` from the first unknown one on, some steps behind the engine."""
        under_way = deque([self._tokens])
        for column in range(self._begin + 1, self._columns.shape[1]):
            if column > self._cache[0].shape[3]:
                self._cache = kv_cache.grown(self._cache)
            self._tokens, self._cache = self._step(
                self._tokens,
                self._columns[:, column],
                mx.array([column]),
                self._first_step,
                self._controls,
                self._cache,
                self._cross,
            )
            mx.async_eval(self._tokens)
            under_way.append(self._tokens)
            if len(under_way) > LAG:
                yield np.array(under_way.popleft())
        while under_way:
            yield np.array(under_way.popleft())


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
