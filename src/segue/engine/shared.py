"""An engine that several threads use at once, each for a request of its own, in shared steps.

Each thread runs its request as on any engine.  Whoever needs a column that is not there yet, while
nobody runs steps, runs them for all requests: there is no thread beside theirs, and nothing runs
when none of them needs anything.  The others sleep, each on an event of its own, until some of
their columns are there: to wake a thread for every column would cost more than the column.  A
request joins at the next step boundary; while its known start is run, the others wait, which takes
as long as a prefill.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..checkpoints.config import ModelConfig
from ..checkpoints.load_report import LoadReport
from .base import Batch, Conditioning, Engine, Member, Sampling, TakeGroup
from .groups import GroupColumns, join_groups

CHUNK = 8
"""Columns, at least, for which a thread is woken while another one runs the steps; fewer at its
end."""

WAKES = 2
"""Threads that are woken after a step, at most: to wake one costs about as much as a step, so of 64
threads each is woken for 32 columns, which take less than a tenth of a second then."""


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
        self.held: Mapping[str, int] = engine.held
        self.max_rows, self._batch = max_rows, engine.batch(max_rows)
        # Of the batch.  Nobody waits for it: a thread that fails to get it sleeps until woken.
        # Not a lock that its thread may take twice: a step may be what drops an iterator.
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._sleeping: dict[Member, threading.Event] = {}
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
        ticket = _Ticket(groups)
        self._waiting.append(ticket)
        try:
            while not ticket.done:
                if not (self._try(self._let_in) and ticket.done):
                    ticket.event.wait()
                    ticket.event.clear()
        except BaseException:
            ticket.withdrawn = True
            for member in ticket.members:
                self.let_go(member)
            self._try(self._let_in)
            raise
        if ticket.error is not None:
            raise ticket.error
        return GroupColumns(ticket.members, self.run_for, self.let_go)

    def run_for(self, member: Member) -> None:
        """Return when `member` has columns, or will never have one: run steps, or let others."""
        event = threading.Event()
        self._sleeping[member] = event  # before the lock is tried, so that whoever holds it knows
        try:
            while not _served(member):
                if not self._try(lambda: self._run_steps(member)):
                    event.wait()
                    event.clear()
        finally:
            del self._sleeping[member]
            # It may have been woken because nobody runs steps, and now does not.
            self._wake_next()

    def let_go(self, member: Member) -> None:
        """Take a member out at the next step boundary; never waits."""
        self._leaving.append(member)
        self._try(self._let_go)

    # --- With the batch to oneself ----------------------------------------------------------------

    def _try(self, work: Callable[[], None]) -> bool:
        """Do work with the batch, if no other thread has it; else that one wakes this one later."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            work()
        finally:
            self._lock.release()
            # Who was dropped meanwhile, and could not leave because the batch was taken.
            while self._leaving and self._lock.acquire(blocking=False):
                try:
                    self._let_go()
                finally:
                    self._lock.release()
            self._wake_next()
        return True

    def _wake_next(self) -> None:
        """Wake a thread that has something to do with the batch, if no other one has it."""
        if self._lock.locked():
            return
        first = next(iter(tuple(self._waiting)), None)
        if first is not None and (first.withdrawn or self._has_room_for(first)):
            first.event.set()
        sleeping = tuple(self._sleeping.items())
        # One that needs columns runs steps; one that has some wakes another before it takes them.
        needy = next((event for member, event in sleeping if not _served(member)), None)
        if needy is not None:
            needy.set()
            return
        for _, event in sleeping:
            if not event.is_set():
                event.set()
                return

    def _run_steps(self, member: Member) -> None:
        """Run steps until `member` has columns: a chunk of them, if others need some too."""
        while not _served(member) or (len(self._sleeping) > 1 and not _has(member, self._chunk)):
            self._let_in()
            rows = self._batch.rows
            self._batch.step()
            self.steps, self.rows_run = self.steps + 1, self.rows_run + rows
            self._wake(member)

    @property
    def _chunk(self) -> int:
        return max(CHUNK, len(self._sleeping) // WAKES)

    def _wake(self, running: Member) -> None:
        """Wake the threads of members that have ended, and of some that have most columns."""
        some, chunk = [], self._chunk
        for member, event in tuple(self._sleeping.items()):
            if member is running or event.is_set():
                continue
            if not member.left or member.error is not None:
                event.set()
            elif len(member.columns) >= chunk:
                some.append((len(member.columns), event))
        some.sort(key=lambda pair: -pair[0])
        for _, event in some[:WAKES]:
            event.set()

    def _has_room_for(self, ticket: _Ticket) -> bool:
        rows = self._batch.rows
        return rows == 0 or rows + ticket.rows <= self._batch.max_rows

    def _let_in(self) -> None:
        """Let those join who have waited longest, as far as there is room."""
        self._let_go()
        while self._waiting:
            ticket = self._waiting[0]
            if not ticket.withdrawn:
                if not self._has_room_for(ticket):
                    return
                try:
                    ticket.members = join_groups(self._batch, ticket.groups)
                except Exception as error:  # its own thread raises it
                    ticket.error = error
                if ticket.withdrawn:
                    self._leaving.extend(ticket.members)
            ticket.done = True
            self._waiting.popleft()
            ticket.event.set()
            self._let_go()

    def _let_go(self) -> None:
        while self._leaving:
            self._batch.leave(self._leaving.popleft())

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


def _has(member: Member, columns: int) -> bool:
    """Whether a member has so many columns, or its last ones."""
    return len(member.columns) >= columns or not member.left or member.error is not None


def _served(member: Member) -> bool:
    """Whether a member has columns, or will never have one."""
    return _has(member, 1)


@dataclass(eq=False)
class _Ticket:
    """A request that waits to join.

    Attributes:
        groups: that join together.
        event: set when it has joined, or its thread is to see whether it can.
        withdrawn: whether its thread no longer waits.
        done: whether it has joined, or failed to.
        members: one for each group, if they have joined.
        error: why it failed to.
    """

    groups: Sequence[TakeGroup]
    event: threading.Event = field(default_factory=threading.Event)
    withdrawn: bool = False
    done: bool = False
    members: list[Member] = field(default_factory=list)
    error: Exception | None = None

    @property
    def rows(self) -> int:
        """Rows that it takes."""
        return sum(group.rows for group in self.groups)
