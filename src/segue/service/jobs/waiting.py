"""The jobs in memory: those that wait, in their order, and the one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    """

    job: Job
    model: ListedModel
    audio_bytes: int
    progress: JobProgress
    ready: bool = False
    fetch: Fetch | None = None


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
    """Jobs by their ids, first come first served.

    Args:
        estimates: of what they take.

    Attributes:
        running: the id of the job that runs; None if none does.
    """

    def __init__(self, estimates: Estimates) -> None:
        self._estimates = estimates
        self._jobs: dict[str, WaitingJob] = {}
        self.running: str | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def __iter__(self) -> Iterator[WaitingJob]:
        """All of them as they are now, the one that runs included."""
        return iter(list(self._jobs.values()))

    def add(self, waiting: WaitingJob) -> None:
        """Put a job behind all others."""
        self._jobs[waiting.job.id] = waiting

    def remove(self, name: str) -> WaitingJob | None:
        """Take a job out; None if it is not there."""
        return self._jobs.pop(name, None)

    def queued(self) -> int:
        """How many wait."""
        return sum(name != self.running for name in self._jobs)

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
        if job.id == self.running:
            return View(job, waiting.progress, seconds=self._seconds_left(waiting))
        queue = [name for name in self._jobs if name != self.running]
        position = queue.index(job.id) + 1
        return View(job, waiting.progress, position, len(queue), self._seconds_until(job.id))

    def _seconds_left(self, waiting: WaitingJob) -> float:
        """Until the job that runs is done."""
        return self._estimates.of(waiting.job.spec).left(waiting.progress)

    def _seconds_until(self, name: str | None) -> float:
        """Until a job begins, or, with None, until all are done."""
        seconds = 0.0
        for other, waiting in self._jobs.items():
            if other == name:
                break
            if other == self.running:
                seconds += self._seconds_left(waiting)
            else:
                seconds += self._estimates.of(waiting.job.spec).generate
        return seconds
