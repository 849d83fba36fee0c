"""Requests that share decode steps: the rows of one cache, which requests join and leave.

The graph appends one column to all rows, so rows are aligned at their ends: what lies before a
row's first column is masked.  Positions are added to the embeddings by the host, so it does not
matter where in the cache a column lies.  A row leaves by not being chosen any more; for one that
joins, the cache is put together anew, which costs reading and writing all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ModelOverflowError
from ...pattern import first_unknown
from ..base import Member, Sampling, rows_of
from .decoding import Prefilled, next_tokens, prefill, streams_of
from .lm import LM, CrossKV, Prefix, Run

UNUSED_COLUMNS = 256
"""Columns that no row needs any more, beyond which the cache is put together anew."""


@dataclass(eq=False, kw_only=True)
class OpenVINOMember(Member):
    """A member of a batch.

    Attributes:
        known: `(S, N, K)` int32, `UNKNOWN` where the model fills in.
        seeds, sampling, first_step: see `Engine.prefill`.
        cross: of its text, or None.
        column: the one whose tokens the next step runs.
        tokens: `(N, K)` of it.
        before: positions in the cache before column 0.
    """

    known: np.ndarray
    seeds: tuple[int, ...]
    sampling: Sampling
    cross: CrossKV | None
    first_step: int
    column: int
    tokens: np.ndarray
    before: int

    @property
    def guided(self) -> bool:
        """Whether there are two streams."""
        return self.sampling.guidance_coef is not None

    @property
    def position(self) -> int:
        """Columns of the cache that are its own, the one of the next step not included."""
        return self.before + self.column

    @property
    def over(self) -> bool:
        """Whether all columns have been sampled."""
        return self.column + 1 >= len(self.known)


class OpenVINOBatch:
    """See `segue.engine.base.Batch`.

    Args:
        lm: the model.
        apart: takes a conditioning apart: what layers attend to, what comes before the sequence.
        make_room: called before the first member joins.
        max_rows: see `Batch`.
    """

    def __init__(
        self,
        lm: LM,
        apart: Callable[[Any], tuple[CrossKV | None, Prefix | None]],
        make_room: Callable[[], None],
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._lm, self._apart, self._make_room = lm, apart, make_room
        self._members: list[OpenVINOMember] = []
        self._run: Run | None = None
        self._with_text = False
        self._index = np.zeros(0, np.int32)  # the cache's row of each row of the next step

    @property
    def rows(self) -> int:
        """See `Batch`."""
        return sum(member.rows for member in self._members)

    # --- Joining and leaving ----------------------------------------------------------------------

    def join(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: CrossKV | Prefix | None = None,
        first_step: int = 0,
    ) -> OpenVINOMember:
        """See `Batch.join`."""
        cross, prefix = self._apart(conditioning)
        if not self._members:
            self._make_room()
        begin, length = first_unknown(sequence), sequence.shape[-1]
        known = np.repeat(sequence, len(seeds) // len(sequence), axis=0)
        start = prefill(
            lm=self._lm,
            sequence=sequence,
            seeds=seeds,
            sampling=sampling,
            cross=cross,
            prefix=prefix,
            first_step=first_step,
        )
        member = OpenVINOMember(
            rows=rows_of(seeds, sampling),
            left=length - begin,
            known=known.transpose(2, 0, 1),
            seeds=seeds,
            sampling=sampling,
            cross=cross,
            first_step=first_step,
            column=begin,
            tokens=start.tokens,
            before=start.before,
        )
        if begin < length:
            member.hand_out([member.tokens])
        if member.over:
            start.run.release()
            return member
        if not self._members:
            self._members.append(member)
            self._run, self._index = start.run, start.rows
            self._with_text = cross is not None
            return member
        with self._failing():
            self._add(member, start)
        return member

    def _add(self, member: OpenVINOMember, start: Prefilled) -> None:
        """Put a member's rows behind those that there are."""
        before, index = self._in_use(), self._index
        self._members.append(member)
        with_text = any(m.cross is not None for m in self._members)
        run = before if with_text == self._with_text else self._lm.empty_run(with_text)
        length = max(m.position for m in self._members)
        for name in before.caches:
            parts = (before.cache(name)[index], start.run.cache(name)[start.rows])
            run.load(name, np.concatenate([_last(part, length) for part in parts]))
        start.run.release()
        if run is not before:
            before.release()
        self._run, self._with_text = run, with_text
        self._index = np.arange(self.rows, dtype=np.int32)
        self._attend()

    def leave(self, member: Any) -> None:
        """See `Batch.leave`."""
        if member not in self._members:
            return
        with self._failing():
            kept = np.repeat(
                [m is not member for m in self._members], [m.rows for m in self._members]
            )
            self._index = self._index[kept]
            self._members.remove(member)
            if not self._members:
                self._forget()
                return
            run, longest = self._in_use(), max(m.position for m in self._members)
            alone = len(self._members) == 1
            if run.length - longest >= (1 if alone else UNUSED_COLUMNS):
                self._trim(run, longest)
            self._attend()

    def _trim(self, run: Run, length: int) -> None:
        for name in run.caches:
            run.load(name, _last(run.cache(name)[self._index], length))
        self._index = np.arange(self.rows, dtype=np.int32)

    def _forget(self) -> None:
        """Be empty."""
        self._members.clear()
        if self._run is not None:
            self._run.release()
        self._run, self._with_text = None, False

    def _in_use(self) -> Run:
        assert self._run is not None  # noqa: S101 - there is a member
        return self._run

    def _attend(self) -> None:
        """Have each row attend to its own text; those without one to a token of zeros."""
        if not self._with_text:
            return
        texts = [m.cross for m in self._members if m.cross is not None]
        tokens = max((text[0][0].shape[2] for text in texts), default=1)
        rows: list[CrossKV | None] = []
        mask = np.full((self.rows, 1, 1, tokens), -np.inf, np.float32)
        mask[..., 0] = 0
        at = 0
        for member in self._members:
            text, takes = member.cross, len(member.seeds)
            if text is not None:
                mask[at : at + takes, ..., : text[0][0].shape[2]] = 0
            rows += [text] * takes + [None] * (member.rows - takes)
            at += member.rows
        cross: CrossKV = []
        config = self._lm.config
        shape = (self.rows, config.num_heads, tokens, config.head_dim)
        for layer in range(config.num_layers):
            pair = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            for row, text in enumerate(rows):
                if text is None:
                    continue
                for own, whole in zip(text[layer], pair, strict=True):
                    whole[row, :, : own.shape[2]] = own[0]
            cross.append(pair)
        self._in_use().attend_to(cross, mask)

    # --- Steps ------------------------------------------------------------------------------------

    def step(self) -> None:
        """See `Batch.step`."""
        if not self._members:
            return
        with self._failing():
            run = self._in_use()
            hidden = np.concatenate(
                [
                    self._lm.embed(streams_of(m.tokens, m.guided)[:, None], m.position)
                    for m in self._members
                ]
            )
            logits = run(hidden, self._index, mask=self._mask(run.length + 1))
            self._index = np.arange(self.rows, dtype=np.int32)
            at = 0
            for member in list(self._members):
                own = logits[at : at + member.rows]
                at += member.rows
                member.column += 1
                try:
                    member.tokens = next_tokens(
                        own,
                        member.known[member.column],
                        member.first_step + member.column,
                        seeds=member.seeds,
                        sampling=member.sampling,
                    )
                except ModelOverflowError as error:
                    member.error = error
                    continue
                member.hand_out([member.tokens])
            for member in list(self._members):
                if member.over or member.error is not None:
                    self.leave(member)

    def _mask(self, length: int) -> np.ndarray | None:
        """What each row attends to, `(B, 1, 1, length)`; None where that is everything."""
        first = np.repeat(
            [length - 1 - member.position for member in self._members],
            [member.rows for member in self._members],
        )
        if not first.any():
            return None
        before = np.arange(length)[None, :] < first[:, None]
        return np.where(before, np.float32(-np.inf), np.float32(0))[:, None, None]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within, whatever is raised ends every member."""
        try:
            yield
        except Exception as error:
            for member in self._members:
                member.error = member.error or error
            self._forget()
            raise


def _last(values: np.ndarray, length: int) -> np.ndarray:
    """The last `length` columns of `(B, H, T, D)`, with zeros before them where there are fewer."""
    missing = length - values.shape[2]
    if missing <= 0:
        return values[:, :, -missing:]
    return np.pad(values, [(0, 0), (0, 0), (missing, 0), (0, 0)])
