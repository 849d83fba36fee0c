"""Requests that share decode steps: the rows of all members in one call.

Each row has a cache of its own, so requests join and leave without anything being copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ModelOverflowError
from ..base import Member, Sampling, rows_of
from ..openvino.decoding import next_tokens
from ..openvino.lm import Prefix
from .decoding import Stream, prefill, rows_of_step
from .lm import NativeLM, TextCache


@dataclass(eq=False, kw_only=True)
class NativeMember(Member):
    """A member of a batch.

    Attributes:
        streams: its rows.
        known: `(N, S, K)` int32, `UNKNOWN` where the model fills in.
        seeds, sampling, first_step: see `Engine.prefill`.
        column: the one whose tokens the next step runs.
        tokens: `(N, K)` of it.
        before: positions in the cache before column 0.
    """

    streams: tuple[Stream, ...]
    known: np.ndarray
    seeds: tuple[int, ...]
    sampling: Sampling
    first_step: int
    column: int
    tokens: np.ndarray
    before: int

    @property
    def over(self) -> bool:
        """Whether all columns have been sampled."""
        return self.column + 1 >= int(self.known.shape[1])


class NativeBatch:
    """See `segue.engine.base.Batch`.

    Args:
        lm: the model.
        apart: takes a conditioning apart: what layers attend to, what comes before the sequence.
        make_room: called before the first member joins.
        max_rows: see `Batch`.
    """

    def __init__(
        self,
        lm: NativeLM,
        apart: Callable[[Any], tuple[TextCache | None, Prefix | None]],
        make_room: Callable[[], None],
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._lm, self._apart, self._make_room = lm, apart, make_room
        self._members: list[NativeMember] = []

    @property
    def rows(self) -> int:
        """See `Batch`."""
        return sum(member.rows for member in self._members)

    def join(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: Any = None,
        first_step: int = 0,
    ) -> NativeMember:
        """See `Batch.join`."""
        text, prefix = self._apart(conditioning)
        if not self._members:
            self._make_room()
        start = prefill(
            lm=self._lm,
            sequence=sequence,
            seeds=seeds,
            sampling=sampling,
            text=text,
            prefix=prefix,
            first_step=first_step,
        )
        member = NativeMember(
            rows=rows_of(seeds, sampling),
            left=sequence.shape[-1] - start.begin,
            streams=start.streams,
            known=start.columns,
            seeds=seeds,
            sampling=sampling,
            first_step=first_step,
            column=start.begin,
            tokens=start.tokens,
            before=start.before,
        )
        if start.begin < sequence.shape[-1]:
            member.hand_out([member.tokens])
        if not member.over:
            self._members.append(member)
        return member

    def leave(self, member: Any) -> None:
        """See `Batch.leave`."""
        if member in self._members:
            self._members.remove(member)
            member.streams = ()

    def step(self) -> None:
        """See `Batch.step`."""
        if not self._members:
            return
        with self._failing():
            rows = [
                row
                for m in self._members
                for row in rows_of_step(self._lm, m.streams, m.tokens, m.before + m.column)
            ]
            logits, at = self._lm.run(rows)[:, None], 0
            for member in list(self._members):
                own = logits[at : at + member.rows]
                at += member.rows
                member.column += 1
                try:
                    member.tokens = next_tokens(
                        own,
                        member.known[:, member.column],
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

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within, whatever is raised ends every member."""
        try:
            yield
        except Exception as error:
            for member in list(self._members):
                member.error = member.error or error
                self.leave(member)
            raise
