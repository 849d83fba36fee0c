"""Jobs: a queue, and one that plays at a time."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from ...errors import SegueError
from ..exceptions import BusyError, TaskCancelledError, TaskError, WorkerDiedError
from ..metrics import Metrics
from ..quantization import Quantization
from ..settings import Settings
from ..workers.client import Worker
from .downloads import Downloads, Fetch
from .estimates import Estimates
from .missing_files import lacking
from .models import Offer, Offered
from .progress import Clock, Live
from .store import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING, Input, Job, Store

log = logging.getLogger("segue.service")

T = TypeVar("T")

CANCELLED_LINE = "the music was cancelled"
MOST_DEATHS = 3
DEADLY_LINE = (
    f"segue was ended {MOST_DEATHS} times while it played this, so it was given up; try a smaller "
    "model, or other settings"
)
SWEEP_SECONDS = 30.0


async def _written(write: Callable[..., T], *args: Any) -> T:
    """Write to the store in a thread; who is cancelled meanwhile leaves when it is written.

    A thread cannot be stopped.  One that is left alone may write when everything after it has
    been written, or when the store is closed.
    """
    writing = asyncio.ensure_future(asyncio.to_thread(write, *args))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


@dataclass
class _Waiting:
    """A job in memory, from when it comes to when it ends."""

    job: Job
    live: Live
    fetch: Fetch | None = None


@dataclass(frozen=True)
class View:
    """A job as it is now.

    Attributes:
        job: what is on disk.
        live: what is known besides, while it waits or runs.
        position: in the queue, from 1; 0 if it is not in it.
        total: jobs in the queue.
        seconds: until it plays, where it is queued; until it is done, where it plays.
    """

    job: Job
    live: Live | None
    position: int = 0
    total: int = 0
    seconds: float = 0.0


class Jobs:
    """The queue.

    Args:
        settings: of the service.
        store: where jobs are kept.
        offer: the models there are.
        downloads: of those that are not here.
        player: the process that plays.
        metrics: what is counted.
        clock: seconds that only go forward, by which it is told how long something takes.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        offer: Offer,
        downloads: Downloads,
        player: Worker,
        metrics: Metrics,
        clock: Clock = time.monotonic,
    ) -> None:
        self._settings, self._store, self._offer = settings, store, offer
        self._downloads, self._player, self._metrics = downloads, player, metrics
        self._estimates, self._clock = Estimates(store), clock
        self._waiting: dict[str, _Waiting] = {}
        self._unwritten: dict[str, Job] = {}
        self._playing: str | None = None
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.ran: dict[str, Any] = {}

    # --- Life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what the last run of the service left, and begin."""
        for job in await asyncio.to_thread(self._store.recover):
            self._waiting[job.id] = _Waiting(job, Live(clock=self._clock))
            if job.deaths >= MOST_DEATHS:  # it may bring the whole computer down, again and again
                await self._end(job.id, FAILED, DEADLY_LINE)
                continue
            try:
                await self._prepare(job.id)
            except SegueError as error:
                await self._end(job.id, FAILED, str(error))
        for download in self._store.unfinished_downloads():
            try:
                model = await asyncio.to_thread(self._offer.find, download.model)
            except SegueError as error:
                self._store.end_download(download.id, FAILED, str(error))
            else:
                self._downloads.resume(download, model)
        self._tasks = [
            asyncio.create_task(self._forever(self._play_next), name="player"),
            asyncio.create_task(self._forever(self._sweep), name="sweeper"),
        ]

    async def close(self) -> None:
        """Stop at once; what plays is queued again."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for write in (self._write_up, self._put_back):
            try:
                await write()
            except (OSError, sqlite3.Error):  # a full disk; the next start counts it as a crash
                log.exception("what was playing cannot be queued again")
        await self._downloads.close()
        await self._player.stop()
        for waiting in self._waiting.values():
            waiting.live.changed()

    async def _put_back(self) -> None:
        """Queue again whatever the disk says is running, for nothing runs any more.

        The disk, and not `_playing`: a stop may come when a job has begun there and not yet here.
        """
        for job in self._store.waiting():
            if job.state == RUNNING:
                await _written(self._store.put_back, job.id)

    async def _forever(self, step: Callable[[], Any]) -> None:
        stumbles = 0
        while True:
            try:
                await step()
                stumbles = 0
            except Exception:
                # A full disk, say: what is on it is as it was, and the next step may go well.
                log.exception("the queue stumbled")
                stumbles += 1
                await asyncio.sleep(min(stumbles, SWEEP_SECONDS))

    @property
    def alive(self) -> bool:
        """Whether jobs are being taken up."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    # --- Coming in ------------------------------------------------------------------------------

    def check_room(self, incoming: int = 0) -> None:
        """Find out whether another job would be taken.

        Args:
            incoming: bytes of its audio.

        Raises:
            BusyError: the queue or the disk is full.
        """
        limit = self._settings.limits.waiting
        queued = sum(name != self._playing for name in self._waiting)
        if queued >= limit:
            raise BusyError(
                f"segue is busy: {queued} requests are waiting already; try again in a while",
                self._seconds_until(None),
            )
        kept = sum(
            input_.bytes
            for w in self._waiting.values()
            if (input_ := self._store.input(w.job.input)) is not None
        )
        if kept + incoming > self._settings.max_disk_bytes:
            raise BusyError(
                "segue has no room for more audio until requests before this one are done; "
                "try again in a while",
                self._seconds_until(None),
            )

    async def submit(
        self,
        kind: str,
        model: Offered,
        quantization: Quantization,
        request: dict[str, Any],
        input_: Input,
    ) -> Job:
        """Queue a job.

        Args:
            kind: which route it came by.
            model: what plays.
            quantization: of the model.
            request: see `Generator.generate`.
            input_: its audio, which lies in its place already.

        Raises:
            BusyError: the queue or the disk is full.
        """
        self.check_room()
        asked = {
            "kind": kind,
            "model": model.path,
            "quantization": quantization.mode,
            "recipe": None if quantization.recipe is None else asdict(quantization.recipe),
            "demanded": quantization.demanded,
            "request": request,
        }
        job = await asyncio.to_thread(self._store.add, asked, input_)
        self._waiting[job.id] = _Waiting(job, Live(clock=self._clock))
        self._metrics.submitted(kind)
        log.info("job queued", extra={"job": job.id, "kind": kind, "model": model.path})
        try:
            await self._prepare(job.id)
        except SegueError as error:
            await self._end(job.id, FAILED, str(error))
        return job

    async def _prepare(self, name: str) -> None:
        """Let the model of a job come here, if it is not; then the job can be played."""
        waiting = self._waiting[name]
        asked = waiting.job.asked
        model = await asyncio.to_thread(self._offer.find, asked["model"])
        text = bool(asked["request"]["text"].strip())
        if name not in self._waiting:  # cancelled meanwhile
            return
        if await asyncio.to_thread(lacking, model.source, model.base, text):
            if name not in self._waiting:
                return
            waiting.fetch = fetch = self._downloads.ensure(model, text, name)
            waiting.live.phase, waiting.live.download = "download", fetch.progress
            fetch.task.add_done_callback(lambda _: self._wake.set())
        self._wake.set()

    # --- Playing --------------------------------------------------------------------------------

    async def _play_next(self) -> None:
        await self._write_up()
        self._wake.clear()
        for name, waiting in list(self._waiting.items()):
            if (fetch := waiting.fetch) is not None:
                if not fetch.task.done():
                    continue
                if fetch.error is not None:
                    await self._end(name, FAILED, fetch.error)
                    continue
                waiting.fetch, waiting.live.phase = None, "queued"
                waiting.live.download = None
            await self._play(waiting)
            return
        await self._wake.wait()

    async def _play(self, waiting: _Waiting) -> None:
        job = await _written(self._store.begin, waiting.job)
        if job is None:  # cancelled
            self._waiting.pop(waiting.job.id, None)
            return
        waiting.job, live = job, waiting.live
        self._playing = job.id
        live.phase, live.message = "load", "loading the model"
        live.changed()
        log.info("job begins", extra={"job": job.id, "attempt": job.attempts})
        began = self._clock()
        state = FAILED
        try:
            state = await self._played(job, live)
        except Exception:
            # The disk, most likely.  Nothing that was finished is touched by it.
            log.exception("job failed", extra={"job": job.id})
            await self._end(job.id, FAILED, "segue could not keep the music: look at its disk")
        finally:
            self._waiting.pop(job.id, None)
            self._playing = None
        self._metrics.played(state, self._clock() - began)

    async def _played(self, job: Job, live: Live) -> str:
        """Play a job; the state that it ends in."""
        try:
            outcome = await self._player.run(await self._task(job), live.hear)
        except TaskCancelledError:
            await self._end(job.id, CANCELLED, CANCELLED_LINE)
            return CANCELLED
        except WorkerDiedError as died:
            self._metrics.worker_deaths.inc()
            await self._end(job.id, FAILED, str(died))
            return FAILED
        except (TaskError, SegueError) as failed:
            await self._end(job.id, FAILED, str(failed))
            return FAILED
        await self._complete(job, outcome)
        return COMPLETED

    async def _task(self, job: Job) -> dict[str, Any]:
        asked = job.asked
        model = await asyncio.to_thread(self._offer.find, asked["model"])
        return {
            "kind": "generate",
            "source": model.source,
            "base": model.base,
            "quantization": asked["quantization"],
            "recipe": asked["recipe"],
            "explicit": asked["demanded"],
            "request": asked["request"],
            "input": str(self._store.input_path(job.input)),
            "folder": str(self._store.attempt_folder(job)),
        }

    async def _complete(self, job: Job, outcome: dict[str, Any]) -> None:
        if await _written(self._store.complete, job, outcome):
            log.info(
                "job done",
                extra={"job": job.id, "seconds": round(outcome["play_s"], 3)},
            )
        self.ran = {key: outcome[key] for key in ("engine", "device")}
        self._waiting.pop(job.id).live.changed()
        self._metrics.made(outcome["new_seconds"] * len(outcome["takes"]), outcome["play_s"])
        with suppress(OSError, sqlite3.Error):  # the music is kept, whatever becomes of these
            for path in self._store.attempt_folder(job).glob("preview-*"):
                path.unlink(missing_ok=True)
            await asyncio.to_thread(
                self._estimates.learn, job.asked, outcome["load_s"], outcome["play_s"]
            )

    async def _end(self, name: str, state: str, error: str) -> bool:
        waiting = self._waiting.pop(name, None)
        try:
            ended = await _written(self._store.end, name, state, error)
        except (OSError, sqlite3.Error):
            ended = self._remember(name, state, error)
        if waiting is not None:
            if waiting.fetch is not None:
                self._downloads.release(waiting.fetch, name)
            waiting.live.changed()
        log.info(f"job {state}", extra={"job": name, "reason": error})
        return ended

    def _remember(self, name: str, state: str, error: str) -> bool:
        """A job has ended, and the disk is full: it is written down when there is room."""
        job = self._store.job(name)
        if job is None or job.state not in WAITING:
            return False
        log.exception("the end of a job cannot be written down yet", extra={"job": name})
        self._unwritten[name] = replace(job, state=state, error=error, finished=self._store.clock())
        shutil.rmtree(self._store.attempt_folder(job), ignore_errors=True)
        return True

    async def _write_up(self) -> None:
        for name, job in list(self._unwritten.items()):
            await _written(self._store.end, name, job.state, job.error or "")
            del self._unwritten[name]

    async def warm(self, model: Offered) -> None:
        """Load a model before anybody asks for it, and learn what runs it."""
        quantization = self._settings.quantization
        task = {
            "kind": "load",
            "source": model.source,
            "base": model.base,
            "quantization": quantization.mode,
            "recipe": None if quantization.recipe is None else asdict(quantization.recipe),
            "explicit": False,
        }
        try:
            self.ran = await self._player.run(task)
        except (TaskError, TaskCancelledError) as error:
            log.warning("the default model cannot be loaded", extra={"reason": str(error)})

    # --- Questions ------------------------------------------------------------------------------

    def view(self, name: str) -> View | None:
        """A job as it is now; None if there is none of that name."""
        job = self._unwritten.get(name) or self._store.job(name)
        if job is None:
            return None
        waiting = self._waiting.get(name)
        if job.state not in WAITING or waiting is None:
            return View(job, None)
        if name == self._playing:
            return View(job, waiting.live, seconds=self._seconds_left(waiting))
        queue = [other for other in self._waiting if other != self._playing]
        position = queue.index(name) + 1
        return View(job, waiting.live, position, len(queue), self._seconds_until(name))

    def queued(self) -> int:
        """Jobs that wait."""
        return sum(name != self._playing for name in self._waiting)

    @property
    def playing(self) -> bool:
        """Whether one plays."""
        return self._playing is not None

    def _seconds_left(self, waiting: _Waiting) -> float:
        """Until the job that plays is done."""
        estimate, live = self._estimates.of(waiting.job.asked), waiting.live
        if live.began is None:
            return estimate.load + estimate.play
        took = self._clock() - live.began
        if live.fraction > 0.1:  # how it goes says more than how it went
            return took * (1 - live.fraction) / live.fraction
        return max(0.0, estimate.play - took)

    def _seconds_until(self, name: str | None) -> float:
        """Until a job plays, or, with None, until all are done."""
        seconds = 0.0
        for other, waiting in self._waiting.items():
            if other == name:
                break
            if other == self._playing:
                seconds += self._seconds_left(waiting)
            else:
                seconds += self._estimates.of(waiting.job.asked).play
        return seconds

    def listen(self, name: str) -> None:
        """Somebody wants to hear a job while it is made; costs work, so nobody does unasked."""
        if name == self._playing:
            self._player.send(listen=True)

    # --- Going ----------------------------------------------------------------------------------

    async def cancel(self, job: Job) -> bool:
        """Stop a job; False if it is over already."""
        if job.id == self._playing:
            for _ in range(100):
                if job.id != self._playing:
                    break
                self._player.cancel()  # again, for the worker may not have been at it yet
                await asyncio.sleep(0.1)
            after = self._store.job(job.id)
            return after is not None and after.state == CANCELLED
        if job.id not in self._waiting:
            return False
        return await self._end(job.id, CANCELLED, CANCELLED_LINE)

    async def _sweep(self) -> None:
        await self._write_up()
        removed = await asyncio.to_thread(
            self._store.sweep, self._settings.keep_seconds, self._settings.max_disk_bytes
        )
        if removed:
            log.info("swept", extra={"jobs": removed})
        await asyncio.sleep(SWEEP_SECONDS)

    async def make_room(self) -> None:
        """Sweep now, because something comes in."""
        if self._store.bytes() > self._settings.max_disk_bytes:
            await asyncio.to_thread(
                self._store.sweep, self._settings.keep_seconds, self._settings.max_disk_bytes
            )
