"""Prefill, and the decode loop: one step compiled once, fed with its own output, never waited for.

Both run in turns (see `turns`), so that threads that share a device do not disturb each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN, first_unknown
from . import cache as kv_cache
from .cache import Cache
from .lm import LM, CrossKV, Prefix
from .lookups import entry
from .prompt import filled_up, prompt_forward
from .sampling import Controls, Noise
from .step import Step, StepFunction
from .turns import turn

LAG = 4
"""Steps that are under way while the host reads the tokens of an earlier one."""


@dataclass
class Prefilled:
    """A sequence of which the known start has been consumed.

    Attributes:
        begin: the number of the first column with an unknown entry.
        unknown: `(S, 1 or N, K)`, the entries that the model fills in.
        columns: `(S, N, K)` int32 on the device, `UNKNOWN` where the model fills in.
        tokens: `(N, K)` int32, column `begin`.
        cache: keys and values of the columns before it; `decode` takes it.
        cross: of the text for each row of the batch, or folded into weights (`Step.folded`).
        noise: of the columns from `begin` on; None where none takes part.
        first_step: the number of the first column for the noise.
        before: positions in the cache before column 0.
        alike: how many of the first positions are the same for all takes (`Step.__call__`).
        products: in place of a cache where a batch writes it: see `prompt.prompt_forward`.
        sources: `(B,)`, for each row of the batch the row of the products.
    """

    begin: int
    unknown: np.ndarray
    columns: mx.array
    tokens: mx.array
    cache: Cache
    cross: CrossKV | list[mx.array] | None
    noise: Noise | None
    first_step: int
    before: int = 0
    alike: mx.array | None = None
    products: list[mx.array] = field(default_factory=list)
    sources: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def gumbel(self, column: int) -> mx.array | None:
        """The noise `(N, K, V)` that a column is sampled with, or its keys."""
        return None if self.noise is None else self.noise.of(self.first_step + column)


def prefill(
    *,
    lm: LM,
    step: Step,
    sequence: np.ndarray,
    seeds: tuple[int, ...],
    controls: Controls,
    cross: CrossKV | None,
    prefix: Prefix | None,
    first_step: int,
    in_place: bool,
    for_batch: bool = False,
) -> Prefilled:
    """Run the known start of a sequence through the model, and sample the column after it.

    Args:
        lm: the model.
        step: what runs afterwards.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is run once,
            and its keys and values are repeated.
        seeds: of the N takes.
        controls: the numbers that tokens are sampled with.
        cross: of one text, or None.
        prefix: of a melody model, else None.
        first_step: the number of the first column.
        in_place: whether the step writes the cache in place, which then has its whole length at
            once.
        for_batch: whether a batch runs the steps, so that noise and text are prepared there, and
            the cache if it is written in place.
    """
    with turn():
        sampler = step.sampler
        takes, starts = len(seeds), len(sequence)
        begin, length = first_unknown(sequence), sequence.shape[-1]
        unknown = sequence.transpose(2, 0, 1) == UNKNOWN
        columns = mx.array(sequence.transpose(2, 0, 1))  # (S, starts, K)
        before, times = 0 if prefix is None else prefix.length, takes // starts
        streams = 2 if sampler.guided else 1
        texts = cross_of_batch(cross, starts, sampler.guided)
        melody = None if prefix is None else prefix.of_batch(starts, sampler.guided)
        cache: Cache = []
        products: list[mx.array] = []
        if for_batch and in_place:
            prompt = sequence[:, :, :begin].transpose(0, 2, 1)
            prompt = filled_up(prompt, lm.config.cardinality, len(lm.positions) - before)
            rows = mx.array(np.concatenate([prompt] * streams))
            last = before + begin - 1
            hidden, products = prompt_forward(lm, rows, last, texts, melody, step.lookup)
        else:
            known = columns[:begin].swapaxes(0, 1)
            rows = mx.concatenate([known] * streams) if streams > 1 else known
            empty = lm.empty_cache(len(rows), before + begin)
            hidden, cache = lm(rows, 0, empty, texts, melody, step.lookup)
            del empty
            hidden = hidden[:, -1:]
        if starts < takes:
            hidden = mx.repeat(hidden, times, axis=0)
            columns = mx.repeat(columns, times, axis=1)
        if cache and in_place:
            cache = kv_cache.widened(cache, times, before + length)
        elif times > 1:
            cache = kv_cache.repeated(cache, times)
        noise = None
        if sampler.noisy:
            shape = lm.config.num_codebooks, lm.config.cardinality
            stop = first_step + (begin + 1 if for_batch else length)
            noise = Noise(seeds, shape, first_step + begin, stop, step.makes_noise)
        batch = None if for_batch else text_of(step, cross, takes)
        alike = None
        if cache and in_place and times > 1 and starts == 1:
            # Several numbers, since MLX keeps one alone in the host's memory.
            alike = mx.full((4,), before + begin, mx.int32)
        logits = lm.logits(hidden)[:, 0]
        gumbel = None if noise is None else noise.of(first_step + begin)
        tokens = step.sample(logits, entry(columns, begin), gumbel, controls)
        # Beside others' steps, waiting for them would leave the device idle afterwards.
        (mx.async_eval if for_batch else mx.eval)(tokens, cache, products, batch, columns, alike)
    return Prefilled(
        begin=begin,
        unknown=unknown,
        columns=columns,
        tokens=tokens,
        cache=cache,
        cross=batch,
        noise=noise,
        first_step=first_step,
        before=before,
        alike=alike,
        products=products,
        sources=np.repeat(np.arange(streams * starts), times),
    )


def decode(
    *,
    lm: LM,
    run: StepFunction,
    start: Prefilled,
    controls: Controls,
    in_place: bool,
    columns_per_read: int,
) -> Iterator[np.ndarray]:
    """Run one step after the other, and yield the columns that they sample, some steps late.

    It may be dropped at any time: between columns it holds no lock.

    Args:
        lm: the model.
        run: the step that `start` was made for, compiled or not.
        start: from `prefill`; its cache is written in place where `in_place` says so.
        controls: the numbers that tokens are sampled with.
        in_place: see `prefill`.
        columns_per_read: columns that are read at a time.

    Yields:
        Columns `(N, K)` int32 from `start.begin` to the last.

    Raises:
        ModelOverflowError: a column's logits are NaN or infinite.
    """
    # The first cache must not outlive its step: MLX updates in place what nobody else refers to.
    tokens, cache, start.cache = start.tokens, start.cache, []
    masks = None if in_place else kv_cache.Masks(lm.dtype)
    reads = _Reads(start, lm.config.cardinality, columns_per_read)
    with turn():
        # Slices of one array: MLX keeps an array of one number in the host's memory, which every
        # kernel that reads it would wait for.
        positions = mx.arange(start.before + len(start.columns))
        mx.eval(positions)
        reads.add(tokens)
    for column in range(start.begin + 1, len(start.columns)):
        with turn():
            there = start.before + column
            if there > cache[0].shape[3]:
                cache = kv_cache.grown(cache)
            tokens, cache = run(
                tokens,
                entry(start.columns, column),
                positions[there - 1 : there],
                None if masks is None else masks.of(there - 1, cache[0].shape[3]),
                start.gumbel(column),
                controls,
                cache,
                start.cross,
                start.alike,
            )
            mx.async_eval(tokens)
            reads.add(tokens)
        yield from reads.ready()
    with turn():
        reads.flush()
    yield from reads.ready(lag=0)


class _Reads:
    """Columns on their way to the host, where they are checked.

    An overflow is reported by the tokens, which are read anyway (see `Sampler`), so nothing waits
    for it.

    Args:
        start: where columns begin, and which of their entries are sampled.
        overflow_token: what is sampled where logits are NaN or infinite.
        columns_per_read: columns that are read at a time.
    """

    def __init__(self, start: Prefilled, overflow_token: int, columns_per_read: int) -> None:
        self._unknown, self._overflow_token = start.unknown, overflow_token
        self._columns_per_read = columns_per_read
        self._added = self._read = start.begin
        self._collected: list[mx.array] = []
        self._under_way: deque[tuple[int, mx.array]] = deque()

    def add(self, tokens: mx.array) -> None:
        """Take the next column `(N, K)`; it is sent to the host with those beside it."""
        self._collected.append(tokens)
        self._added += 1
        if len(self._collected) >= self._columns_per_read:
            self.flush()

    def flush(self) -> None:
        """Send the columns to the host that wait for others."""
        if self._collected:
            several = len(self._collected) > 1
            stacked = mx.stack(self._collected) if several else self._collected[0][None]
            mx.async_eval(stacked)
            self._under_way.append((self._added, stacked))
            self._collected = []

    def ready(self, lag: int = LAG) -> Iterator[np.ndarray]:
        """The columns that were sent at least `lag` columns ago.

        Raises:
            ModelOverflowError: a column's logits are NaN or infinite.
        """
        while self._under_way and self._under_way[0][0] + lag <= self._added:
            for tokens in np.array(self._under_way.popleft()[1]):
                overflown = (tokens == self._overflow_token) & self._unknown[self._read]
                if overflown.any():
                    raise ModelOverflowError("logits")
                self._read += 1
                yield tokens


def text_of(step: Step, cross: CrossKV | None, takes: int) -> CrossKV | list[mx.array] | None:
    """The text as a step takes it for so many takes: folded into weights, or keys and values."""
    return step.folded(cross, takes) or cross_of_batch(cross, takes, step.sampler.guided)


def cross_of_batch(cross: CrossKV | None, takes: int, guided: bool) -> CrossKV | None:
    """Cross-attention's keys and values for a batch: one text for all takes.

    The unconditioned stream attends to zeros, which add nothing.
    """
    if cross is None:
        return None

    def batch(x: mx.array) -> mx.array:
        rows = mx.repeat(x, takes, axis=0)
        return mx.concatenate([rows, mx.zeros_like(rows)]) if guided else rows

    return [(batch(k), batch(v)) for k, v in cross]
