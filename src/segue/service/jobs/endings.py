"""The ends of jobs that fail or are cancelled: written down, or kept until the disk has room."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace

from ..threads import run_to_end
from .database import FAILURES, until_reached
from .rows import WAITING, Job
from .store import Store

log = logging.getLogger("segue.service")


class Endings:
    """Writes down how jobs end.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unwritten: dict[str, Job] = {}
        self._being_written: dict[str, asyncio.Event] = {}

    def get(self, name: str) -> Job | None:
        """A job that has ended, but not on the disk."""
        return self._unwritten.get(name)

    async def end(self, name: str, state: str, error: str, attempts: int | None = None) -> bool:
        """End a job that waits or runs; False if it does not; see `Store.end`."""
        written = self._being_written.setdefault(name, asyncio.Event())
        try:
            return await until_reached(self._store.end, name, state, error, attempts)
        except FAILURES:
            return self._remember(name, state, error)
        finally:
            self._being_written.pop(name, None)
            written.set()

    async def written(self, name: str) -> None:
        """Wait while the end of a job is being written down, if it is."""
        if (written := self._being_written.get(name)) is not None:
            await written.wait()

    def _remember(self, name: str, state: str, error: str) -> bool:
        job = self._store.job(name)
        if job is None or job.state not in WAITING:
            return False
        log.exception("the end of a job cannot be written down yet", extra={"job": name})
        self._unwritten[name] = replace(job, state=state, error=error, finished=self._store.clock())
        shutil.rmtree(self._store.attempt_folder(job), ignore_errors=True)
        return True

    async def flush(self) -> None:
        """Write down what could not be written before.

        Raises:
            Exception: one of `FAILURES`; it cannot be now, either.
        """
        for name, job in list(self._unwritten.items()):
            await run_to_end(self._store.end, name, job.state, job.error or "")
            del self._unwritten[name]
