"""Prefill, and the decode loop: a row for each stream of each take, all rows in one call a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...pattern import first_unknown
from ..base import Sampling
from ..openvino.decoding import next_tokens, streams_of
from ..openvino.lm import Prefix
from .lm import Cache, NativeLM, Rows, TextCache


@dataclass(frozen=True)
class Stream:
    """One row of a step.

    Attributes:
        cache: of its columns.
        text: what it attends to, or None.
    """

    cache: Cache
    text: TextCache | None


@dataclass(frozen=True)
class Prefilled:
    """A sequence of which the known start has been consumed.

    Attributes:
        streams: conditioned ones of all takes, then unconditioned ones.
        begin: the number of the first column with an unknown entry.
        columns: `(N, S, K)` int32, `UNKNOWN` where the model fills in.
        tokens: `(N, K)` int32, column `begin`; empty if there is none.
        before: positions in the cache before column 0.
    """

    streams: tuple[Stream, ...]
    begin: int
    columns: np.ndarray
    tokens: np.ndarray
    before: int = 0


def prefill(
    *,
    lm: NativeLM,
    sequence: np.ndarray,
    seeds: tuple[int, ...],
    sampling: Sampling,
    text: TextCache | None,
    prefix: Prefix | None,
    first_step: int,
) -> Prefilled:
    """Run the known start of a sequence through the model, and sample the column after it.

    Args:
        lm: the model.
        sequence: `(1 or N, K, S)`, see `Engine.prefill`.  A start that all takes share is run once,
            and they go on from its keys and values, which are kept once.
        seeds: of the N takes.
        sampling: how tokens are sampled.
        text: of one text, or None.
        prefix: of a melody model, else None.
        first_step: the number of the first column.

    Raises:
        ModelOverflowError: logits are NaN or infinite.
    """
    guided = sampling.guidance_coef is not None
    begin, starts, takes = first_unknown(sequence), len(sequence), len(seeds)
    columns = sequence.transpose(0, 2, 1)  # (starts, S, K)
    before = 0 if prefix is None else prefix.length
    shared = starts < takes
    prompt = streams_of(columns[:, :begin], guided)
    texts = streams_of_texts(text, starts, guided)
    room = before + (begin if shared else columns.shape[1])
    hidden = np.stack([lm.embed(tokens, before) for tokens in prompt])
    if prefix is not None:
        hidden = prefix.before(hidden, guided)
    streams = [Stream(Cache(lm, room), text) for text in texts]
    logits = np.concatenate(
        [
            lm.run([Rows(stream.cache, rows, stream.text)])
            for stream, rows in zip(streams, hidden, strict=True)
        ]
    )
    if shared:
        bases, left = streams, columns.shape[1] - begin
        streams = [
            Stream(Cache(lm, left, base.cache), base.text) for base in bases for _ in range(takes)
        ]
        logits = np.repeat(logits, takes, axis=0)
        columns = np.repeat(columns, takes, axis=0)
    tokens = np.zeros(0, np.int32)
    if begin < columns.shape[1]:
        tokens = next_tokens(
            logits[:, None], columns[:, begin], first_step + begin, seeds=seeds, sampling=sampling
        )
    return Prefilled(tuple(streams), begin, columns, tokens, before)


def decode(
    *,
    lm: NativeLM,
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
    tokens = start.tokens
    for column in range(start.begin, start.columns.shape[1]):
        yield tokens
        if column + 1 < start.columns.shape[1]:
            rows = rows_of_step(lm, start.streams, tokens, start.before + column)
            tokens = next_tokens(
                lm.run(rows)[:, None],
                start.columns[:, column + 1],
                first_step + column + 1,
                seeds=seeds,
                sampling=sampling,
            )


def rows_of_step(
    lm: NativeLM, streams: tuple[Stream, ...], tokens: np.ndarray, position: int
) -> list[Rows]:
    """The rows of a step that runs `tokens` `(N, K)` at `position`, of one request."""
    embedded = [lm.embed(row[None], position) for row in tokens]
    return [
        Rows(stream.cache, embedded[n % len(embedded)], stream.text)
        for n, stream in enumerate(streams)
    ]


def streams_of_texts(
    text: TextCache | None, takes: int, guided: bool
) -> tuple[TextCache | None, ...]:
    """What each stream attends to: the unconditioned ones nothing."""
    return (text,) * takes + (None,) * (takes if guided else 0)
