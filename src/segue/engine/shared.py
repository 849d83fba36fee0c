"""An engine that several threads use at once, each for a request of its own, in shared steps.

Each thread runs its request as on any engine.  Whoever needs a column that is not there yet runs
the next step, for all requests: there is no thread beside theirs, and nothing runs when none of
them needs anything.  A request joins at the next step boundary; while its known start is run, the
others wait, which takes as long as a prefill.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..checkpoints.config import ModelConfig
from ..checkpoints.load_report import LoadReport
from .base import Batch, Conditioning, Engine, Member, Sampling, TakeGroup
from .groups import GroupColumns, join_groups


class SharedEngine:
    """An engine whose requests share their decode steps; fulfils `segue.engine.base.Engine`.

    Any number of threads may use it.  Requests that do not fit into the batch wait for their turn,
    in the order in which they came; one that is larger than the batch is run when it is empty.

    Args:
        engine: what runs them.
        max_rows: see `Batch`.

    Attributes:
        max_rows: as given.
        steps: that were run so far.
        rows_run: rows of all those steps together: their quotient is how full the batch was.
    """

    def __init__(self, engine: Engine, max_rows: int) -> None:
        self._engine = engine
        self.name, self.device, self.dtype = engine.name, engine.device, engine.dtype
        self.config: ModelConfig = engine.config
        self.load_report: LoadReport = engine.load_report
        self.max_rows, self._batch = max_rows, engine.batch(max_rows)
        # Not a lock that its thread may take twice: a step may be what drops an iterator.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[_Ticket] = deque()
        self._leaving: deque[Member] = deque()
        self.steps = self.rows_run = 0

    @property
    def rows(self) -> int:
        """Rows that are taken now."""
        return self._batch.rows

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self._waiting)

    def prefill(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: Conditioning | None = None,
        first_step: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Engine.prefill`; first this waits until there is room."""
        return self.prefill_groups([TakeGroup(sequence, seeds, sampling, conditioning, first_step)])

    def prefill_groups(self, groups: Sequence[TakeGroup]) -> Iterator[np.ndarray]:
        """See `Engine.prefill_groups`; first this waits until there is room for all of them."""
        ticket = _Ticket(sum(group.rows for group in groups))
        self._waiting.append(ticket)  # before the lock, so that the next step waits for it
        with self._held():
            try:
                while self._waiting[0] is not ticket or not self._first_fits():
                    self._changed.wait()
                members = join_groups(self._batch, groups)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        return GroupColumns(members, self.run_for, self.let_go)

    def _first_fits(self) -> bool:
        """Whether there is room for the request that has waited longest, if any waits."""
        self._let_go()
        if not self._waiting:
            return False
        rows = self._batch.rows
        return rows == 0 or rows + self._waiting[0].rows <= self._batch.max_rows

    def run_for(self, member: Member) -> None:
        """Run steps until `member` has a column, or will never have one."""
        with self._held():
            while not member.columns and member.left and member.error is None:
                if self._first_fits():  # it joins first
                    self._changed.wait()
                    continue
                rows = self._batch.rows
                self._batch.step()
                self.steps, self.rows_run = self.steps + 1, self.rows_run + rows
                self._changed.notify_all()

    def let_go(self, member: Member) -> None:
        """Take a member out at the next step boundary; never waits."""
        self._leaving.append(member)
        self._let_go_unheld()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Have the batch to oneself."""
        try:
            with self._lock:
                yield
                self._let_go()
        finally:
            self._let_go_unheld()

    def _let_go_unheld(self) -> None:
        """Let members go unless somebody else holds the batch, who will do it then."""
        while self._leaving and self._lock.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        while self._leaving:
            self._batch.leave(self._leaving.popleft())
            self._changed.notify_all()

    # --- The engine's own -------------------------------------------------------------------------

    def read_weights(self) -> None:
        """See `Engine.read_weights`."""
        self._engine.read_weights()

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """See `Engine.encode`."""
        return self._engine.encode(samples)

    def decode(
        self, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """See `Engine.decode`."""
        return self._engine.decode(codes, advance)

    def condition(self, text: str, melody: np.ndarray | None = None) -> Conditioning:
        """See `Engine.condition`."""
        return self._engine.condition(text, melody)

    def text_note(self, text: str) -> str | None:
        """See `Engine.text_note`."""
        return self._engine.text_note(text)

    def batch(self, max_rows: int) -> Batch:
        """See `Engine.batch`; another one than that of this engine's own requests."""
        return self._engine.batch(max_rows)

    def logits(self, sequence: np.ndarray, conditioning: Conditioning | None = None) -> np.ndarray:
        """See `Engine.logits`."""
        return self._engine.logits(sequence, conditioning)


@dataclass(eq=False)
class _Ticket:
    """A request that waits to join, with so many rows."""

    rows: int
