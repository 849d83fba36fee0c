"""The queue of jobs: as many run as there are workers, or share the steps of a model on one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...errors import SegueError
from ..exceptions import RefusalError, TaskCancelledError, TaskError
from ..metrics import Metrics
from ..model_tag import model_tag
from ..quantization import Quantization
from ..settings import GIB, Settings
from ..threads import run_to_end
from ..workers.pool import Place, Pool
from .admission import Admission, Reservation
from .client_limits import ClientLimits
from .database import FAILURES, UnreachableError
from .downloads import Downloads
from .endings import Endings
from .estimates import Estimates
from .missing_files import missing_repositories
from .models import ListedModel, ModelList
from .progress import Clock, JobProgress
from .rows import CANCELLED, FAILED, RUNNING, WAITING, Input, Job, Parent
from .runner import CANCELLED_LINE, Runner, task_of
from .shared_queue import SECONDS_BETWEEN_LOOKS, SharedQueue
from .spec import JobSpec
from .store import QueueFullError, Store
from .usage import LimitReachedError
from .waiting import View, WaitingJob, WaitingJobs

log = logging.getLogger("segue.service")

MOST_CRASHES = 3
CRASHES_LINE = (
    f"segue was ended {MOST_CRASHES} times while it played this, so it was given up; try a smaller "
    "model, or other settings"
)
SWEEP_SECONDS = 30.0


class Jobs:
    """The queue.

    Args:
        settings: of the service.
        store: where jobs are kept.
        models: the list of models.
        downloads: of models that are not on this machine.
        pool: the workers that generate.
        metrics: what is counted.
        clock: seconds that only go forward, by which estimates are made.

    Attributes:
        admission: decides whether there is room for another job.
        limits: what each client may have.
        database_gone: whether the database on a server could not be reached lately.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        models: ModelList,
        downloads: Downloads,
        pool: Pool,
        metrics: Metrics,
        clock: Clock = time.monotonic,
    ) -> None:
        self._settings, self._store, self._models = settings, store, models
        self._downloads, self._pool, self._metrics = downloads, pool, metrics
        self._estimates, self._clock = Estimates(store), clock
        self._endings = Endings(store)
        self._waiting = WaitingJobs(self._estimates, settings.batch_rows, settings.workers[1])
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._runner = Runner(
            store,
            pool,
            self._waiting,
            self._estimates,
            metrics,
            clock,
            settings.adapters_folder,
            end=self._end,
            ended=self._wake.set,
        )
        pool.on_start = self._wake.set
        self._shared: SharedQueue | None = None
        self.database_gone = False
        if store.fronts is not None:
            self._shared = SharedQueue(
                *(store, store.fronts, self._waiting, pool, models),
                recover=self._recover,
                forget=self._forget,
            )
        self.limits = ClientLimits(store, self._waiting, metrics)
        self.admission = Admission(settings, self._waiting.load, self.limits.check)

    # --- Life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Resume what the last run of the service left, and begin."""
        jobs = await asyncio.to_thread(self._store.recover)
        if self._shared is not None:
            await self._shared.refresh()
            self._tasks.append(asyncio.create_task(self._forever(self._beat), name="lease"))
        else:
            for job in jobs:
                await self._recover(job)
        await self._resume_downloads()
        self._tasks += [
            asyncio.create_task(self._forever(self._run_next), name="runner"),
            asyncio.create_task(self._forever(self._sweep), name="sweeper"),
        ]

    async def _resume_downloads(self) -> None:
        for download in self._store.downloads.unfinished():
            if self._downloads.progress_of(download) is not None:
                continue
            try:
                model = await asyncio.to_thread(self._models.find, download.model)
            except SegueError as error:
                self._store.downloads.end(download.id, FAILED, str(error))
            else:
                self._downloads.resume(download, model)

    async def _beat(self) -> None:
        """Renew this front's lease, and take over what the jobs of those that are gone need."""
        assert self._shared is not None and self._store.fronts is not None  # noqa: S101, PT018
        if await self._shared.beat(self._settings.batch_rows * self._settings.workers[1]):
            await self._resume_downloads()
        await asyncio.sleep(min(1.0, self._store.fronts.lease_seconds / 5))

    async def _recover(self, job: Job) -> None:
        if job.crashes >= MOST_CRASHES:  # it may bring the whole computer down, again and again
            await self._end(job.id, FAILED, CRASHES_LINE)
            return
        try:
            model = await asyncio.to_thread(self._models.find, job.spec.model)
        except SegueError as error:
            await self._end(job.id, FAILED, str(error))
            return
        await self._enqueue(job, model, self._store.audio_bytes(job))

    async def close(self) -> None:
        """Stop at once; jobs that run are queued again."""
        tasks = [*self._tasks, *self._runner.tasks]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        for write in (self._endings.flush, self._put_back):
            try:
                await write()
            except FAILURES:  # a full disk; the next start counts it as a crash
                log.exception("the jobs that ran cannot be queued again")
        await self._downloads.close()
        await self._pool.stop()
        for waiting in self._waiting:
            waiting.progress.notify()

    async def _put_back(self) -> None:
        """Queue again whatever the disk says is running, for nothing runs any more.

        The disk, and not the memory: a stop may come when a job has begun there and not yet here.
        """
        for job in self._store.waiting():
            if job.state == RUNNING and job.front == self._store.front:
                await run_to_end(self._store.put_back, job.id)

    async def _forever(self, step: Callable[[], Any]) -> None:
        stumbles = 0
        while True:
            try:
                await step()
                stumbles, self.database_gone = 0, False
            except UnreachableError as error:
                log.warning("the database cannot be reached", extra={"reason": str(error)})
                self.database_gone = True
                await asyncio.sleep(1.0)
            except Exception:
                # A full disk, say: what is on it is as it was, and the next step may go well.
                log.exception("the queue stumbled")
                stumbles += 1
                await asyncio.sleep(min(stumbles, SWEEP_SECONDS))

    @property
    def alive(self) -> bool:
        """Whether queued jobs are run."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    # --- Submitting ---------------------------------------------------------------------------

    async def submit(
        self,
        spec: JobSpec,
        model: ListedModel,
        input_: Input,
        reservation: Reservation,
        melody: Input | None = None,
        parent: Parent | None = None,
    ) -> Job:
        """Queue a job.

        Args:
            spec: of the job, checked.
            model: that generates.
            input_: its audio, which lies in its place in the store.
            reservation: of the room for it, which ends here, by whose it is.
            melody: which lies there, too; None if there is none, or an earlier job has brought it.
            parent: the take that it plays on from.
        """
        most = None if self._shared is None else self._settings.limits.waiting
        add, client = self._store.add, reservation.client
        try:
            job = await asyncio.to_thread(add, spec, input_, melody, parent, client, most)
        except QueueFullError as full:  # other fronts have filled it since there was room
            raise self.admission.full(full.waiting) from None
        except LimitReachedError as reached:
            raise self.limits.reached(client, reached) from None
        self._metrics.submitted(spec.kind, client.name)
        named = {"client": client.name} if client.name else {}
        log.info(
            "job queued",
            extra={"job": job.id, "kind": spec.kind, "model": model.path, **named},
        )
        self.admission.release(reservation)  # the job counts itself from the next line on
        await self._enqueue(job, model, self._store.audio_bytes(job))
        return job

    async def _enqueue(self, job: Job, model: ListedModel, audio_bytes: int) -> None:
        """Let a job wait for its turn, and for what is missing of its model."""
        if job.id in self._waiting:  # the look at a shared queue has found it before
            return
        progress = JobProgress(clock=self._clock)
        waiting = WaitingJob(job, model, audio_bytes, progress, alone=job.crashes > 0)
        self._waiting.add(waiting)
        try:
            if model.missing:
                await self._fetch_missing(waiting)
        finally:
            waiting.ready = True
            self._wake.set()

    async def _fetch_missing(self, waiting: WaitingJob) -> None:
        """Download what a job needs of its model; without a text, that is less than all."""
        model, name = waiting.model, waiting.job.id
        text = waiting.job.spec.described
        missing = await asyncio.to_thread(missing_repositories, model.source, model.base, text)
        if missing and name in self._waiting:  # not cancelled meanwhile
            waiting.fetch = fetch = self._downloads.ensure(model, text, name)
            waiting.progress.phase, waiting.progress.download = "download", fetch.progress
            fetch.task.add_done_callback(lambda _: self._wake.set())

    # --- Running ------------------------------------------------------------------------------

    async def _run_next(self) -> None:
        await self._endings.flush()
        self._wake.clear()
        if self._shared is not None:
            await self._shared.refresh()
        for waiting in self._waiting:
            if not waiting.ready or waiting.job.id in self._waiting.running:
                continue
            if (fetch := waiting.fetch) is not None:
                if not fetch.task.done():
                    continue
                if fetch.error is not None:
                    await self._end(waiting.job.id, FAILED, fetch.error)
                    continue
                waiting.fetch, waiting.progress.phase = None, "queued"
                waiting.progress.download = None
            if (place := await self._place(waiting)) is None:
                self._pool.grow(self._waiting.rows_queued())
                break  # nobody overtakes it
            await self._runner.begin(waiting, place)
            return
        with suppress(TimeoutError):
            seconds = None if self._shared is None else SECONDS_BETWEEN_LOOKS
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _place(self, waiting: WaitingJob) -> Place | None:
        """The worker that a job may begin on now, if there is one."""
        if not waiting.model_bytes and not self._pool.knows(waiting.demand.model):
            waiting.model_bytes = await asyncio.to_thread(waiting.model.stored_bytes)
        return self._pool.find(waiting.demand)

    async def _end(self, name: str, state: str, error: str, attempts: int | None = None) -> bool:
        waiting = self._waiting.remove(name)
        ended = await self._endings.end(name, state, error, attempts)
        if waiting is not None:
            self._forget(waiting)
        if ended:
            log.info(f"job {state}", extra={"job": name, "reason": error})
        return ended

    def _forget(self, waiting: WaitingJob) -> None:
        """Let nothing wait for a job any more that was taken out."""
        if waiting.fetch is not None:
            self._downloads.release(waiting.fetch, waiting.job.id)
        waiting.progress.notify()

    async def warm(self, model: ListedModel, quantization: Quantization) -> None:
        """Load a model before a request names it, and learn what runs it."""
        spec = JobSpec("warm", model.path, quantization)
        size = await asyncio.to_thread(model.stored_bytes)
        tag = model_tag(model.source, quantization.mode, ())
        try:
            self._runner.ran = await self._pool.warm(task_of(spec, model), tag, size) or self.ran
        except (TaskError, TaskCancelledError) as error:
            log.warning("the default model cannot be loaded", extra={"reason": str(error)})

    # --- Looking --------------------------------------------------------------------------------

    def view(self, name: str) -> View | None:
        """A job as it is now; None if there is none of that name."""
        job = self._endings.get(name) or self._store.job(name)
        if job is None:
            return None
        if self._shared is not None and job.state in WAITING and name not in self._waiting:
            total = self.queued() + 1  # another front has accepted it within this half second
            seconds = self._waiting.load().seconds
            return View(job, JobProgress(clock=self._clock), total, total, seconds)
        return self._waiting.view(job)

    def queued(self) -> int:
        """How many jobs wait."""
        return self._waiting.queued()

    @property
    def ran(self) -> dict[str, Any]:
        """Engine and device of the last job, once one has run."""
        return self._runner.ran

    @property
    def running(self) -> int:
        """How many jobs run here."""
        return len(self._waiting.here())

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return self._waiting.rows()

    def request_preview(self, name: str) -> None:
        """Let the worker write a preview of a job that runs; costs work, so only on request."""
        if name not in self._waiting.running:
            return
        if self._is_here(name):
            self._pool.listen(name)
        elif self._shared is not None:
            self._shared.listen(name)

    def _is_here(self, name: str) -> bool:
        """Whether a job runs on this front."""
        waiting = self._waiting.get(name)
        return waiting is not None and name in self._waiting.running and not waiting.elsewhere

    # --- Ending ---------------------------------------------------------------------------------

    async def cancel(self, job: Job) -> bool:
        """Stop a job; False if it is over already."""
        if self._is_here(job.id):
            for _ in range(100):
                if job.id not in self._waiting.running:
                    break
                self._pool.cancel(job.id)  # again, for the worker may not have been at it yet
                await asyncio.sleep(0.1)
            if job.id in self._waiting.running or job.id not in self._waiting:
                # A job is taken from those that wait before its end is written down.
                await self._endings.written(job.id)
                after = self._endings.get(job.id) or self._store.job(job.id)
                return after is not None and after.state == CANCELLED
        if job.id not in self._waiting and self._shared is None:  # else it waits, or waits again
            return False
        return await self._end(job.id, CANCELLED, CANCELLED_LINE)

    async def _sweep(self) -> None:
        await self._endings.flush()
        if ended := await self._pool.shrink():
            log.info("workers without work ended", extra={"workers": ended})
        removed = await asyncio.to_thread(self._swept)
        if removed:
            log.info("swept", extra={"jobs": removed})
        await asyncio.sleep(SWEEP_SECONDS)

    async def make_room(self) -> None:
        """Sweep now, before more audio comes in.

        Raises:
            RefusalError: what has a star fills the room.
        """
        most = self._settings.max_disk_bytes
        if self._store.bytes() <= most:
            return
        await asyncio.to_thread(self._swept)
        if self._store.kept.starred_bytes() > most:
            raise RefusalError(
                507,
                f"music with a star fills the {most / GIB:.3g} GB that there are for it; remove "
                "some of it, or start segue serve with a larger --max-disk",
            )

    def _swept(self) -> int:
        settings = self._settings
        return self._store.sweep(
            settings.keep_seconds, settings.max_disk_bytes, settings.limits.undo_seconds
        )
