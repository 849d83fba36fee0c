"""The jobs that run, each in a task of its own, from its beginning to its end."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ...checkpoints.adapters import AdapterChoice
from ...errors import SegueError
from ..adapters import adapters_in, located
from ..exceptions import TaskCancelledError, TaskError, WorkerDiedError
from ..metrics import Metrics
from ..threads import run_to_end
from ..workers.pool import Place, Pool
from .database import FAILURES, until_reached
from .estimates import Estimates
from .models import ListedModel
from .progress import Clock
from .rows import CANCELLED, COMPLETED, FAILED, QUEUED, Job
from .spec import JobSpec
from .store import Store
from .waiting import WaitingJob, WaitingJobs

log = logging.getLogger("segue.service")

MOST_LOST = 10
"""Times that a job runs again because a machine vanished with it; from the second on, alone."""

CANCELLED_LINE = "the music was cancelled"

DROPPED = "dropped"
"""What becomes of an attempt that is not the latest any more: another front runs the job."""


class Runner:
    """Runs the jobs that the queue chooses.

    Args:
        store: where jobs are kept.
        pool: the workers that generate.
        waiting: the queue's jobs.
        estimates: that learn from jobs that are done.
        metrics: what is counted.
        clock: see `Jobs`.
        adapters: the folder, or the address, of those that requests may name.
        end: writes down that an attempt at a job failed or was cancelled.
        ended: called when a job runs no more.

    Attributes:
        tasks: of the jobs that run.
        ran: engine and device of the last job, once one has run.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        waiting: WaitingJobs,
        estimates: Estimates,
        metrics: Metrics,
        clock: Clock,
        adapters: Path | str,
        end: Callable[[str, str, str, int | None], Awaitable[bool]],
        ended: Callable[[], None],
    ) -> None:
        self._store, self._pool, self._waiting = store, pool, waiting
        self._estimates, self._metrics, self._clock = estimates, metrics, clock
        self._adapters, self._end, self._ended = adapters, end, ended
        self.tasks: set[asyncio.Task[None]] = set()
        self.ran: dict[str, Any] = {}

    async def begin(self, waiting: WaitingJob, place: Place) -> None:
        """Begin a job where there is a place for it; the rest of it goes on in a task."""
        job = await run_to_end(self._store.begin, waiting.job)
        if job is None or waiting.job.id not in self._waiting:  # cancelled, meanwhile perhaps
            self._waiting.remove(waiting.job.id)
            return
        waiting.job, progress = job, waiting.progress
        self._waiting.running.add(job.id)
        self._pool.take(place, waiting.demand)
        progress.phase, progress.message = "load", "loading the model"
        progress.notify()
        log.info(
            "job begins",
            extra={"job": job.id, "attempt": job.attempts, "worker": place.number},
        )
        task = asyncio.create_task(self._run(waiting, place), name=f"job {job.id}")
        self.tasks.add(task)
        task.add_done_callback(partial(self._ran, place, job.id))

    def _ran(self, place: Place, job: str, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._pool.release(place, job)
        self._ended()

    async def _run(self, waiting: WaitingJob, place: Place) -> None:
        job, began = waiting.job, self._clock()
        state = FAILED
        try:
            state = await self._generate(waiting, place)
        except Exception:
            # The disk, most likely.  Nothing that was finished is touched by it.
            log.exception("job failed", extra={"job": job.id})
            line = "segue could not keep the music: look at its disk"
            await self._end(job.id, FAILED, line, job.attempts)
        if state == QUEUED:
            return
        self._waiting.remove(job.id)
        if state == DROPPED:
            log.info("attempt dropped", extra={"job": job.id, "attempt": job.attempts})
            waiting.progress.notify()
            with suppress(OSError):
                shutil.rmtree(self._store.attempt_folder(job))
            return
        self._metrics.ended(state, self._clock() - began, place.number, job.client)

    async def _generate(self, waiting: WaitingJob, place: Place) -> str:
        """Let a worker run a job; the state that it ends in."""
        job = waiting.job
        try:
            task = await until_reached(self._task, waiting)
            outcome = await self._pool.run(job.id, task, waiting.progress.update)
        except TaskCancelledError:
            return await self._end_attempt(job, CANCELLED, CANCELLED_LINE)
        except WorkerDiedError as died:
            self._metrics.crashed(place.number, died.first)
            if died.lost and waiting.lost < MOST_LOST:
                waiting.lost += 1
                return await self._put_back(waiting, alone=waiting.alone or waiting.lost > 1)
            if died.shared and not waiting.alone:
                return await self._put_back(waiting, alone=True)
            return await self._end_attempt(job, FAILED, str(died))
        except (TaskError, SegueError) as failed:
            return await self._end_attempt(job, FAILED, str(failed))
        return await self._complete(waiting, outcome, place)

    async def _end_attempt(self, job: Job, state: str, error: str) -> str:
        """Write down how an attempt ended, if it is the latest."""
        return state if await self._end(job.id, state, error, job.attempts) else DROPPED

    def _task(self, waiting: WaitingJob) -> dict[str, Any]:
        """The worker's task of a job.

        Raises:
            RequestError: an adapter is not there any more.
            ResultsGoneError: the store of results does not answer.
        """
        job, spec = waiting.job, waiting.job.spec
        input_ = self._store.input(job.input)
        if input_ is not None and input_.frames:  # else it has no file
            self._store.present(self._store.input_path(job.input))
        if spec.melody is not None:
            self._store.present(self._store.input_path(spec.melody))
        sound = None if input_ is None else [input_.sample_rate, input_.channels]
        adapters = located(spec.adapters, adapters_in(self._adapters)) if spec.adapters else ()
        return {
            **task_of(spec, waiting.model, adapters),
            "id": job.id,
            "input": str(self._store.input_path(job.input)),
            "sound": sound,
            "melody": None if spec.melody is None else str(self._store.input_path(spec.melody)),
            "folder": str(self._store.attempt_folder(job)),
        }

    async def _put_back(self, waiting: WaitingJob, alone: bool) -> str:
        """Queue a job again, in its old place; the state that it ends in.

        Args:
            waiting: the job.
            alone: whether it, or one beside it, may have ended the worker.
        """
        job = waiting.job
        if not await until_reached(self._store.put_back, job.id, job.attempts):
            return DROPPED
        waiting.alone = alone
        self._waiting.running.discard(waiting.job.id)
        waiting.progress.restart()
        log.info("job waits to run alone" if alone else "job waits", extra={"job": waiting.job.id})
        return QUEUED

    async def _complete(self, waiting: WaitingJob, outcome: dict[str, Any], place: Place) -> str:
        job = waiting.job
        completed = await until_reached(self._store.complete, job, outcome)
        if not completed:  # unless that was done, and its answer lost
            now = await until_reached(self._store.job, job.id)
            completed = now is not None and (now.state, now.attempts) == (COMPLETED, job.attempts)
        self.ran = {key: outcome[key] for key in ("engine", "device")}
        self._waiting.remove(job.id)
        waiting.progress.notify()
        if not completed:
            return DROPPED
        log.info("job done", extra={"job": job.id, "seconds": round(outcome["play_s"], 3)})
        seconds = outcome["new_seconds"] * len(outcome["takes"])
        rows = outcome.get("batch_rows", job.spec.rows)
        self._metrics.generated(seconds, outcome["play_s"], rows, place.number, job.client)
        with suppress(*FAILURES):  # the music is kept, whatever becomes of these
            for path in self._store.attempt_folder(job).glob("preview-*"):
                path.unlink(missing_ok=True)
            await asyncio.to_thread(
                self._estimates.learn, job.spec, outcome["load_s"], outcome["play_s"]
            )
        return COMPLETED


def task_of(
    spec: JobSpec, model: ListedModel, adapters: Sequence[AdapterChoice] = ()
) -> dict[str, Any]:
    """The worker's task: the spec as it is, and where its model and its adapters lie."""
    kind = "load" if spec.kind == "warm" else "generate"
    return {
        "kind": kind,
        "source": model.source,
        "base": model.base,
        "adapters": [[each.name, each.scale] for each in adapters],
        "spec": spec.to_json(),
    }
