"""Requests that share decode steps on an engine for processors; one alone is a batch of its own.

What such engines have in common is here: who has joined, what is sampled, who leaves.  An engine
gives what it runs: the known start of a request, and a step of all rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ...errors import ModelOverflowError
from ...pattern import first_unknown
from ..base import Member, Sampling, rows_of
from .sampling import next_tokens

State = TypeVar("State")
"""What an engine keeps for a member."""

Text = TypeVar("Text")
"""What an engine's layers attend to, of one text."""

Prefix = TypeVar("Prefix")
"""What an engine puts before the sequence in a melody model."""


@dataclass(frozen=True)
class Start(Generic[Text, Prefix]):
    """A request whose known start is to be run.

    Attributes:
        prompt: `(1 or N, S, K)` int32, the known columns; one that all takes share is run once.
        takes: N.
        columns: of the whole sequence.
        guided: whether there are two streams.
        text: what the conditioned stream's layers attend to, or None.
        prefix: what comes before the sequence, or None.
    """

    prompt: np.ndarray
    takes: int
    columns: int
    guided: bool
    text: Text | None
    prefix: Prefix | None


@dataclass(eq=False, kw_only=True)
class CPUMember(Member, Generic[State]):
    """A member of a batch.

    Attributes:
        state: what the engine keeps for it, for as long as it is a member.
        known: `(N, S, K)` int32, `UNKNOWN` where the model fills in.
        seeds, sampling, first_step: see `Engine.prefill`.
        column: the one whose tokens the next step runs.
        tokens: `(N, K)` of it; empty if all columns were known.
        before: positions in the cache before column 0.
    """

    state: State
    known: np.ndarray
    seeds: tuple[int, ...]
    sampling: Sampling
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
        """Where in the cache the column of the next step goes."""
        return self.before + self.column

    @property
    def over(self) -> bool:
        """Whether all columns have been sampled."""
        return self.column + 1 >= int(self.known.shape[1])

    def sample(self, logits: np.ndarray) -> None:
        """Sample `tokens` of `column` from logits `(B, K * V)`, and hand them out.

        Raises:
            ModelOverflowError: logits are NaN or infinite.
        """
        self.tokens = next_tokens(
            logits,
            self.known[:, self.column],
            self.first_step + self.column,
            seeds=self.seeds,
            sampling=self.sampling,
        )
        self.hand_out([self.tokens])


class CPUBatch(ABC, Generic[State, Text, Prefix]):
    """See `segue.engine.base.Batch`.

    Args:
        apart: takes a conditioning apart: what layers attend to, what comes before the sequence.
        make_room: called before the first member joins.
        max_rows: see `Batch`.
    """

    def __init__(
        self,
        apart: Callable[[Any], tuple[Text | None, Prefix | None]],
        make_room: Callable[[], None],
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._apart, self._make_room = apart, make_room
        self._members: list[CPUMember[State]] = []

    # --- An engine's own --------------------------------------------------------------------------

    @abstractmethod
    def _run_start(self, start: Start[Text, Prefix]) -> tuple[State, int, np.ndarray]:
        """Run the known start of a request.

        Returns:
            What is kept for it, positions before column 0, and logits `(B, K * V)` after the start,
            of the conditioned rows of all takes, then of the unconditioned ones.
        """

    @abstractmethod
    def _run_step(self) -> np.ndarray:
        """Run the next column of all members; return logits `(B, K * V)` of their rows."""

    def _added(self) -> None:
        """Follow a member's joining: the last of `_members`."""

    def _removed(self, kept: np.ndarray) -> None:
        """Follow a member's leaving; `kept` says of each former row whether it stays."""

    def _release(self, state: State) -> None:
        """Free what is kept for a request that does not become a member."""

    # --- Joining and leaving ----------------------------------------------------------------------

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
    ) -> CPUMember[State]:
        """See `Batch.join`."""
        text, prefix = self._apart(conditioning)
        if not self._members:
            self._make_room()
        begin, columns, takes = first_unknown(sequence), sequence.shape[-1], len(seeds)
        starts = sequence.transpose(0, 2, 1)
        guided = sampling.guidance_coef is not None
        state, before, logits = self._run_start(
            Start(starts[:, :begin], takes, columns, guided, text, prefix)
        )
        member = CPUMember(
            rows=rows_of(seeds, sampling),
            left=columns - begin,
            state=state,
            known=np.repeat(starts, takes // len(starts), axis=0),
            seeds=seeds,
            sampling=sampling,
            first_step=first_step,
            column=begin,
            tokens=np.zeros(0, np.int32),
            before=before,
        )
        try:
            if begin < columns:
                member.sample(logits)
        except ModelOverflowError:
            self._release(state)
            raise
        if member.over:
            self._release(state)
            del member.state
            return member
        with self._failing():
            self._members.append(member)
            self._added()
        return member

    def leave(self, member: Any) -> None:
        """See `Batch.leave`."""
        if member not in self._members:
            return
        with self._failing():
            kept = np.repeat(
                [m is not member for m in self._members], [m.rows for m in self._members]
            )
            self._members.remove(member)
            self._removed(kept)
            del member.state

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within, whatever is raised ends every member."""
        try:
            yield
        except Exception as error:
            kept = np.zeros(self.rows, bool)
            members, self._members = self._members, []
            for member in members:
                member.error = member.error or error
                del member.state
            self._removed(kept)
            raise

    # --- Steps ------------------------------------------------------------------------------------

    def step(self) -> None:
        """See `Batch.step`."""
        if not self._members:
            return
        with self._failing():
            logits, at = self._run_step(), 0
            for member in list(self._members):
                own = logits[at : at + member.rows]
                at += member.rows
                member.column += 1
                try:
                    member.sample(own)
                except ModelOverflowError as error:
                    member.error = error
            for member in list(self._members):
                if member.over or member.error is not None:
                    self.leave(member)
