"""The workers that generate: which of them takes a job, and what they may keep loaded together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from ...channel import Message
from ..exceptions import TaskCancelledError, TaskError, WorkerDiedError
from .interface import OnMessage, WorkerClient, ignore

log = logging.getLogger("segue.service")

_SECONDS_BETWEEN_STARTS = 5.0


@dataclass(frozen=True)
class Demand:
    """What a job needs of a worker.

    Attributes:
        job: its id.
        model: see `model_tag`.
        rows: of a batch.
        alone: whether nothing may run beside it on its worker.
        bytes: that its model takes in memory, about, unless the pool knows better.
    """

    job: str
    model: str
    rows: int
    alone: bool = False
    bytes: int = 0


@dataclass
class _Loaded:
    """A model of a worker, and whether the worker has said that it holds it."""

    bytes: int
    used: int
    reported: bool = False


@dataclass(eq=False)
class Place:
    """A worker of the pool, and what it is known to do and to hold.

    Attributes:
        number: from 0.
        worker: the worker itself.
        jobs: those that run on it, by their ids.
        models: that it holds, or is about to load, by their tags.
        dropping: tasks that have it drop models, which are not to meet a job.
        starting: has it start, where that takes a while.
        memory: bytes that MLX had allocated when the worker last said so.
        idle_since: when its last job ended, by `time.monotonic`.
    """

    number: int
    worker: WorkerClient
    jobs: dict[str, Demand] = field(default_factory=dict)
    models: dict[str, _Loaded] = field(default_factory=dict)
    dropping: int = 0
    starting: asyncio.Task[None] | None = None
    memory: int = 0
    idle_since: float = 0.0

    @property
    def free(self) -> bool:
        """Whether it does nothing that a job would meet."""
        return not self.jobs and not self.dropping

    @property
    def rows(self) -> int:
        """How many rows its jobs have."""
        return sum(demand.rows for demand in self.jobs.values())

    @property
    def bytes(self) -> int:
        """How many bytes its models take, about."""
        return sum(loaded.bytes for loaded in self.models.values())

    @property
    def last_used(self) -> int:
        """A number that is greater for what was used later."""
        return max((loaded.used for loaded in self.models.values()), default=-1)


class Pool:
    """The workers of a service.

    Args:
        workers: all that there may be; a worker starts with its first task.
        kept: how many of them, the first, are never ended for want of work.
        batch_rows: rows of jobs that may run together on one worker.
        budget: bytes that the models of all workers may take together, where they share a memory;
            a model that is larger than that has it for itself.  None leaves each worker to bound
            its own.
        idle_seconds: after which a worker that is not kept is ended.
        clock: seconds that only go forward.

    Attributes:
        places: one for each worker.
        on_start: called when a worker has become available.
    """

    def __init__(
        self,
        workers: Sequence[WorkerClient],
        *,
        kept: int | None = None,
        batch_rows: int = 1,
        budget: int | None = None,
        idle_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = [Place(number, worker) for number, worker in enumerate(workers)]
        self.batch_rows, self._budget = batch_rows, budget
        self._kept = len(self.places) if kept is None else kept
        self._idle_seconds, self._clock = idle_seconds, clock
        self.on_start: Callable[[], None] = lambda: None
        self._of_job: dict[str, Place] = {}
        self._sizes: dict[str, int] = {}
        self._uses = count()
        for place in self.places:
            place.worker.on_end = place.models.clear

    # --- Which worker ---------------------------------------------------------------------------

    def find(self, demand: Demand) -> Place | None:
        """The worker that a job may begin on now; None if it has to wait.

        The first of: one that runs the same model and has room in its batch; an idle one that holds
        the model; an idle one that holds none; the idle one that has been idle the longest.  A job
        that is larger than a batch runs alone.
        """
        fitting = [place for place in self.places if self._fits(place, demand)]
        sharing = [place for place in fitting if place.jobs and self._shares(place, demand)]
        if sharing:
            return max(sharing, key=lambda place: place.rows)
        idle = [place for place in fitting if place.worker.available and place.free]
        return min(idle, key=lambda place: self._order(place, demand), default=None)

    def _shares(self, place: Place, demand: Demand) -> bool:
        others = place.jobs.values()
        alike = all(other.model == demand.model and not other.alone for other in others)
        return alike and not demand.alone and place.rows + demand.rows <= self.batch_rows

    def _order(self, place: Place, demand: Demand) -> tuple[bool, bool, bool, int]:
        warm = demand.model in place.models
        started = place.number < self._kept or place.worker.alive
        return (not warm, not started, bool(place.models), place.last_used)

    def _fits(self, place: Place, demand: Demand) -> bool:
        """Whether memory has room for a job's model, once idle workers have dropped theirs."""
        if self._budget is None or demand.model in place.models:
            return True
        busy = [other for other in self.places if other.jobs and other is not place]
        needed = sum(other.bytes for other in busy) + self._size(demand)
        return not busy or needed <= self._budget

    def _size(self, demand: Demand) -> int:
        return self._sizes.get(demand.model, demand.bytes)

    def knows(self, model: str) -> bool:
        """Whether it is known how large a model is, or of no matter."""
        return self._budget is None or len(self.places) == 1 or model in self._sizes

    def take(self, place: Place, demand: Demand) -> None:
        """Let a job have a place that `find` found, until it is released."""
        place.jobs[demand.job] = demand
        self._of_job[demand.job] = place
        held = place.models.setdefault(demand.model, _Loaded(self._size(demand), 0))
        held.used = next(self._uses)

    def release(self, place: Place, job: str) -> None:
        """A job runs no more at a place; it may run at another already."""
        if self._of_job.get(job) is place:
            del self._of_job[job]
        if place.jobs.pop(job, None) is not None:
            place.idle_since = self._clock()

    def place_of(self, job: str) -> Place | None:
        """Where a job runs; None if it does not."""
        return self._of_job.get(job)

    # --- Tasks ----------------------------------------------------------------------------------

    async def run(self, job: str, task: Message, on_message: OnMessage = ignore) -> Message:
        """Run the task of a job that has a place; see `WorkerClient.run`."""
        place = self._of_job[job]
        return await self._run(place, place.jobs[job].model, task, on_message)

    async def _run(
        self, place: Place, model: str, task: Message, on_message: OnMessage = ignore
    ) -> Message:
        def receive(message: Message) -> None:
            self._learn(place, message)
            on_message(message)

        if self._budget is not None:
            await self._make_room(place)
            others = sum(other.bytes for other in self.places if other is not place)
            task = {**task, "room": max(0, self._budget - others)}
        try:
            outcome = await place.worker.run(task, receive)
        except (TaskError, TaskCancelledError):
            if (loaded := place.models.get(model)) is not None and not loaded.reported:
                del place.models[model]
            raise
        self._learn(place, outcome)
        return outcome

    def _learn(self, place: Place, message: Message) -> None:
        """Take from a worker's message what it holds, how large that is, and its memory."""
        place.memory = message.pop("memory", place.memory)
        if (held := message.pop("held", None)) is None:
            return
        self._sizes |= held
        for model, loaded in list(place.models.items()):
            if model not in held and loaded.reported:
                del place.models[model]
        for model, size in held.items():
            loaded = place.models.setdefault(model, _Loaded(size, next(self._uses)))
            loaded.bytes, loaded.reported = size, True

    async def _make_room(self, place: Place) -> None:
        """Have idle workers drop what was used longest ago, as far as a place needs the room.

        What the place itself holds beside the models of its jobs its worker drops by itself.
        """
        needed = {demand.model for demand in place.jobs.values()}
        own = sum(place.models[model].bytes for model in needed if model in place.models)
        while self._budget is not None:
            others = [other for other in self.places if other is not place]
            idle = [other for other in others if other.models and not other.jobs]
            if own + sum(other.bytes for other in others) <= self._budget or not idle:
                return
            victim = min(idle, key=lambda other: min(m.used for m in other.models.values()))
            model = min(victim.models, key=lambda tag: victim.models[tag].used)
            del victim.models[model]
            await self._drop(victim, model)

    async def _drop(self, place: Place, model: str) -> None:
        if not place.worker.alive:
            return
        place.dropping += 1
        try:
            with suppress(WorkerDiedError):  # then it is gone, too
                await place.worker.run({"kind": "drop", "model": model})
        finally:
            place.dropping -= 1

    def cancel(self, job: str) -> None:
        """Stop a job that runs."""
        if (place := self._of_job.get(job)) is not None:
            place.worker.cancel(job)

    def listen(self, job: str) -> None:
        """Let a job that runs write a preview."""
        if (place := self._of_job.get(job)) is not None:
            place.worker.listen(job)

    async def warm(self, task: Message, model: str, bytes_: int) -> Message | None:
        """Load a model on every worker that is kept, as far as memory has room; see `run`.

        Returns:
            What the first of them finished with; None if all of them have jobs.

        Raises:
            TaskError: it cannot be loaded.
        """
        first: Message | None = None
        for place in self.places[: self._kept]:
            held = sum(other.bytes for other in self.places)
            size = self._sizes.get(model, bytes_)
            if place.jobs or (first and self._budget is not None and held + size > self._budget):
                continue
            place.models.setdefault(model, _Loaded(size, next(self._uses)))
            outcome = await self._run(place, model, task)
            first = first or outcome
        return first

    # --- Life -----------------------------------------------------------------------------------

    @property
    def alive(self) -> int:
        """How many workers have been started and have not ended."""
        return sum(place.worker.alive for place in self.places)

    @property
    def cannot_start(self) -> str | None:
        """Why no worker starts; None if one does, or none has tried."""
        reasons = [place.worker.cannot_start for place in self.places]
        return None if self.alive else next(filter(None, reasons), None)

    def grow(self, rows: int) -> None:
        """Have workers start that are not available, where that takes a while.

        Args:
            rows: of the jobs that wait: no more workers start at a time than these would fill.
        """
        wanted = -(-rows // self.batch_rows) - sum(p.starting is not None for p in self.places)
        absent = [p for p in self.places if not p.worker.available and p.starting is None]
        for place in absent[: max(0, wanted)]:
            place.idle_since = self._clock()
            place.starting = asyncio.create_task(self._start(place))

    async def _start(self, place: Place) -> None:
        try:
            await place.worker.start()
            place.idle_since = self._clock()
        except Exception:
            log.exception("a worker does not start", extra={"worker": place.number})
            await asyncio.sleep(_SECONDS_BETWEEN_STARTS)
        finally:
            place.starting = None
        self.on_start()

    async def shrink(self) -> int:
        """End workers that have been idle for long and are not kept; return how many."""
        ended = 0
        for place in self.places[self._kept :]:
            idle = self._clock() - place.idle_since
            there = place.worker.alive or place.starting is not None
            if there and not place.jobs and idle > self._idle_seconds:
                place.dropping += 1  # no job is to begin on it meanwhile
                try:
                    await place.worker.stop()
                finally:
                    place.dropping -= 1
                ended += 1
        return ended

    async def stop(self) -> None:
        """End all workers; their next tasks start them again."""
        await asyncio.gather(*(place.worker.stop() for place in self.places))
        starting = [place.starting for place in self.places if place.starting is not None]
        await asyncio.gather(*starting, return_exceptions=True)
