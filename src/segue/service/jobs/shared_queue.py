"""The queue of all fronts, as this front sees it: what the database says, twice a second.

Looked at, and not listened for with `LISTEN`: a look finds everything, after a lost connection too,
in the two or three hundred rows at most that wait and run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ...errors import SegueError
from ..workers.pool import Pool
from .fronts import Fronts
from .models import ListedModel, ModelList
from .progress import JobProgress
from .rows import QUEUED, RUNNING, Job, QueueEntry
from .store import Store
from .waiting import WaitingJob, WaitingJobs

log = logging.getLogger("segue.service")

SECONDS_BETWEEN_LOOKS = 0.5


class SharedQueue:
    """Keeps the queue in memory as it is in the database.

    It looks only between two beginnings of jobs on this front, so what it finds is never about a
    job that is being begun here.

    Args:
        store: that the fronts share.
        fronts: they.
        waiting: the queue in memory.
        pool: the workers of this front.
        models: its list of models.
        recover: lets a job wait that is this front's own, or ends it.
        forget: called for a job that is not in the queue any more.
    """

    def __init__(
        self,
        store: Store,
        fronts: Fronts,
        waiting: WaitingJobs,
        pool: Pool,
        models: ModelList,
        recover: Callable[[Job], Awaitable[None]],
        forget: Callable[[WaitingJob], None],
    ) -> None:
        self._store, self._fronts, self._waiting = store, fronts, waiting
        self._pool, self._models = pool, models
        self._recover, self._forget = recover, forget
        self._odd: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._listened: set[str] = set()

    # --- This front's word ----------------------------------------------------------------------

    async def beat(self, places: int) -> list[str]:
        """Renew the lease, say how far the jobs are that run here, and look after other fronts.

        Args:
            places: rows of jobs that may run together here.

        Returns:
            The ids of downloads that are this front's now.
        """
        said = {waiting.job.id: waiting.progress.said() for waiting in self._waiting.here()}
        await asyncio.to_thread(self._fronts.beat, places, said)
        return await asyncio.to_thread(self._fronts.take_over)

    def listen(self, name: str) -> None:
        """Let the front that runs a job know that somebody listens to it here."""
        if name not in self._listened:
            self._listened.add(name)
            task = asyncio.create_task(asyncio.to_thread(self._store.listen, name))
            task.add_done_callback(lambda task: task.cancelled() or task.exception())

    # --- What the database says -----------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at the database."""
        before = {waiting.job.id for waiting in self._waiting}
        entries = await asyncio.to_thread(self._store.queue)
        others = await asyncio.to_thread(self._fronts.others)
        self._waiting.places = others.places
        odd = self._odd
        self._odd = {}
        for entry in entries:
            if entry.id not in before and entry.id not in self._waiting:
                await self._add(entry)
            elif self._is_taken_over(entry):
                self._waiting.remove(entry.id)
                await self._add(entry)
            if (waiting := self._waiting.get(entry.id)) is not None:
                self._compare(waiting, entry, others.progress.get(entry.id), odd)
        there = {entry.id for entry in entries}
        self._listened &= there
        self._foreign &= there
        for name in before - there:
            if (gone := self._waiting.get(name)) is None:
                continue
            if name in self._waiting.running and not gone.elsewhere:
                self._stop(gone, odd)  # cancelled on another front
            else:
                self._waiting.remove(name)
                self._forget(gone)
        self._waiting.arrange([entry.id for entry in entries])

    def _is_taken_over(self, entry: QueueEntry) -> bool:
        """Whether a job was another front's, which is gone, and waits here."""
        own = entry.state == QUEUED and entry.front == self._store.front
        return own and entry.id in self._foreign and entry.id in self._waiting

    async def _add(self, entry: QueueEntry) -> None:
        """Take a job into the queue that another front has accepted, or had."""
        job = await asyncio.to_thread(self._store.job, entry.id)
        if job is None or job.state not in (QUEUED, RUNNING):
            return
        if job.front == self._store.front and job.state == QUEUED:
            self._foreign.discard(job.id)
            await self._recover(job)
            return
        self._foreign.add(job.id)
        try:
            model = await asyncio.to_thread(self._models.find, job.spec.model)
        except SegueError:  # another front can run it: one has accepted it
            model = ListedModel(job.spec.model, job.spec.model, "", job.spec.model, None, ("",))
        audio = await asyncio.to_thread(self._store.audio_bytes, job)
        waiting = WaitingJob(job, model, audio, JobProgress(), alone=job.crashes > 0)
        waiting.ready = not model.missing
        if entry.id not in self._waiting:  # nor was submitted meanwhile
            self._waiting.add(waiting)

    def _compare(
        self,
        waiting: WaitingJob,
        entry: QueueEntry,
        said: dict[str, Any] | None,
        odd: dict[str, int],
    ) -> None:
        """Bring a job in memory to where the database has it."""
        name = entry.id
        runs_here = name in self._waiting.running and not waiting.elsewhere
        if runs_here:
            own = (entry.state, entry.front) == (RUNNING, self._store.front)
            if entry.attempts > waiting.job.attempts or (
                entry.attempts == waiting.job.attempts and not own
            ):
                self._stop(waiting, odd)  # the lease ran out, and others have it
            elif entry.listened:
                self._pool.listen(name)
        elif entry.state == RUNNING and entry.front != self._store.front:
            self._waiting.running.add(name)
            self._foreign.add(name)
            waiting.elsewhere = True
            if said is not None:
                waiting.progress.follow(said)
        elif waiting.elsewhere:
            self._waiting.running.discard(name)
            waiting.elsewhere = False
            waiting.alone = waiting.alone or entry.crashes > 0
            waiting.progress.restart()
        elif entry.state == RUNNING:
            self._put_back(entry, odd)

    def _stop(self, waiting: WaitingJob, odd: dict[str, int]) -> None:
        """Stop an attempt that is not the latest any more, once two looks have found that."""
        name = waiting.job.id
        self._odd[name] = odd.get(name, 0) + 1
        if self._odd[name] > 1:
            self._pool.cancel(name)

    def _put_back(self, entry: QueueEntry, odd: dict[str, int]) -> None:
        """Queue a job again that runs here but in memory: its beginning was written, unheard of."""
        self._odd[entry.id] = odd.get(entry.id, 0) + 1
        if self._odd[entry.id] > 1:
            log.warning("job begun without an answer", extra={"job": entry.id})
            self._store.put_back(entry.id, entry.attempts)
