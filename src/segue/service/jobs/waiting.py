"""The jobs in memory: those that wait, in their order, and those that run."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..model_tag import model_tag
from ..workers.pool import Demand
from .admission import Load
from .downloads import Fetch
from .estimates import Estimates
from .models import ListedModel
from .progress import JobProgress
from .rows import WAITING, Job


@dataclass
class WaitingJob:
    """A job from when it is queued to when it ends.

    Attributes:
        job: what is on disk.
        model: that generates.
        audio_bytes: of its audio.
        progress: how far it is.
        ready: whether what is missing of the model is known, and `fetch` is set if anything is.
        fetch: the download that it waits for.
        alone: whether nothing may run beside it on its worker: it may be what ended a worker or the
            service.
        lost: how often its worker has vanished with its machine.
        model_bytes: that its model takes in memory, about; 0 as long as nobody has looked.
        elsewhere: whether it runs on another front.
    """

    job: Job
    model: ListedModel
    audio_bytes: int
    progress: JobProgress
    ready: bool = False
    fetch: Fetch | None = None
    alone: bool = False
    lost: int = 0
    model_bytes: int = 0
    elsewhere: bool = False

    @property
    def demand(self) -> Demand:
        """What it needs of a worker."""
        spec = self.job.spec
        model = model_tag(self.model.source, spec.quantization.mode, spec.adapters)
        return Demand(self.job.id, model, spec.rows, self.alone, self.model_bytes)


@dataclass(frozen=True)
class View:
    """A job as it is now.

    Attributes:
        job: what is on disk.
        progress: how far it is, while it waits or runs.
        position: in the queue, from 1; 0 if it is not in it.
        total: jobs in the queue.
        seconds: until it begins, where it is queued; until it is done, where it runs.
    """

    job: Job
    progress: JobProgress | None
    position: int = 0
    total: int = 0
    seconds: float = 0.0


class WaitingJobs:
    """Jobs by their ids, in the order of their turns; of all fronts, where several share a queue.

    Args:
        estimates: of what they take.
        batch_rows: rows of jobs that may run together on one worker.
        workers: how many workers there may be.

    Attributes:
        running: the ids of the jobs that run.
        places: rows of jobs that may run together.
    """

    def __init__(self, estimates: Estimates, batch_rows: int = 1, workers: int = 1) -> None:
        self._estimates, self._batch_rows = estimates, batch_rows
        self.places = batch_rows * workers
        self._jobs: dict[str, WaitingJob] = {}
        self.running: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def __iter__(self) -> Iterator[WaitingJob]:
        """All of them as they are now, those that run included."""
        return iter(list(self._jobs.values()))

    def add(self, waiting: WaitingJob) -> None:
        """Put a job behind those that run, and those whose turn comes no later than its own."""
        behind = len(self._jobs)
        for name, other in reversed(self._jobs.items()):
            if name in self.running or other.job.turn <= waiting.job.turn:
                break
            behind -= 1
        jobs = list(self._jobs.items())
        self._jobs[waiting.job.id] = waiting
        if behind < len(jobs):
            self._jobs = {**dict(jobs[:behind]), waiting.job.id: waiting, **dict(jobs[behind:])}

    def remove(self, name: str) -> WaitingJob | None:
        """Take a job out, which runs no more; None if it is not there."""
        self.running.discard(name)
        return self._jobs.pop(name, None)

    def get(self, name: str) -> WaitingJob | None:
        """The job of that id; None if it is not there."""
        return self._jobs.get(name)

    def arrange(self, names: list[str]) -> None:
        """Bring the jobs into an order; those that are not named come last, as they came."""
        first = {name: self._jobs[name] for name in names if name in self._jobs}
        self._jobs = first | {n: w for n, w in self._jobs.items() if n not in first}

    def here(self) -> list[WaitingJob]:
        """Those that run on this front."""
        return [w for name in self.running if not (w := self._jobs[name]).elsewhere]

    def queued(self) -> int:
        """How many wait."""
        return sum(name not in self.running for name in self._jobs)

    def seconds_of_client(self, client: str) -> float:
        """Until the first of a client's jobs is done; 0 where it has none."""
        own = [waiting for waiting in self._jobs.values() if waiting.job.client == client]
        left = [self._seconds_left(each) for each in own if each.job.id in self.running]
        if not left and own:
            first = own[0].job
            generate = self._estimates.of(first.spec).generate
            left = [self._seconds_until(first.id) + generate]
        return min(left, default=0.0)

    def queued_by_client(self) -> Counter[str]:
        """How many wait, by their clients."""
        return Counter(w.job.client for n, w in self._jobs.items() if n not in self.running)

    def rows_queued(self) -> int:
        """How many rows those have that wait."""
        return sum(w.job.spec.rows for n, w in self._jobs.items() if n not in self.running)

    def rows(self) -> int:
        """How many rows those have that run on this front."""
        return sum(waiting.job.spec.rows for waiting in self.here())

    def load(self) -> Load:
        """What they take together."""
        return Load(
            self.queued(),
            sum(waiting.audio_bytes for waiting in self._jobs.values()),
            self._seconds_until(None),
        )

    def view(self, job: Job) -> View:
        """A job as it is now.

        Args:
            job: as it is on disk.
        """
        waiting = self._jobs.get(job.id)
        if job.state not in WAITING or waiting is None:
            return View(job, None)
        if job.id in self.running:
            return View(job, waiting.progress, seconds=self._seconds_left(waiting))
        queue = [name for name in self._jobs if name not in self.running]
        position = queue.index(job.id) + 1
        return View(job, waiting.progress, position, len(queue), self._seconds_until(job.id))

    def _seconds_left(self, waiting: WaitingJob) -> float:
        """Until a job that runs is done."""
        return self._estimates.of(waiting.job.spec).left(waiting.progress)

    def _seconds_until(self, name: str | None) -> float:
        """Until a job begins, or, with None, until all are done.

        As if jobs of different models could run together, too.
        """
        places = [0.0] * max(self.places, self._batch_rows)  # when each is free
        for other, waiting in self._jobs.items():
            rows = min(waiting.job.spec.rows, self._batch_rows)
            taken = [heapq.heappop(places) for _ in range(rows)]
            if other == name:
                return taken[-1]
            if other in self.running:
                seconds = self._seconds_left(waiting)
            else:
                seconds = self._estimates.of(waiting.job.spec).generate
            for _ in range(rows):
                heapq.heappush(places, taken[-1] + seconds)
        return max(places)
