"""A stop, wherever it comes: nothing that was told to stop counts as a crash."""

import asyncio
import sqlite3
import threading
from typing import Any

import pytest

from segue.service.exceptions import TaskCancelledError, TaskError
from segue.service.jobs.downloads import Downloads
from segue.service.jobs.models import ListedModel
from segue.service.jobs.queue import Jobs
from segue.service.jobs.rows import CANCELLED, COMPLETED, FAILED, QUEUED, Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.metrics import Metrics
from segue.service.settings import Settings
from segue.service.workers.pool import Pool

SPEC = JobSpec("native", "local/toy", prompt_seconds=1.0, output_seconds=2.0, seed=1)
OUTCOME = {
    "engine": "mlx",
    "device": "cpu",
    "takes": [{"bytes": 0}],
    "new_seconds": 1.0,
    "load_s": 0.1,
    "play_s": 0.1,
}


class HeldStore(Store):
    """A store one of whose writes is held, before or after it reaches the disk.

    Attributes:
        reached: set when it is there.
        go: lets it go on.
        full: whether ends cannot be written.
    """

    def __init__(self, folder, hold=None, when="after"):
        super().__init__(folder)
        self.hold, self.when = hold, when
        self.reached, self.go = threading.Event(), threading.Event()
        self.full = False

    def _held(self, name, write, *args):
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        if name == self.hold and self.when == "before":
            self._stay()
        result = write(*args)
        if name == self.hold and self.when == "after":
            self._stay()
        return result

    def _stay(self):
        self.reached.set()
        assert self.go.wait(30)

    def begin(self, *args):
        return self._held("begin", super().begin, *args)

    def complete(self, *args):
        return self._held("complete", super().complete, *args)

    def end(self, *args):
        return self._held("end", super().end, *args)

    def put_back(self, *args):
        return self._held("put_back", super().put_back, *args)


class Player:
    """Stands for the process that plays: done at once, failed at once, or never done."""

    available = True

    def __init__(self, outcome=None):
        self.outcome, self.stopped = outcome, False

    async def run(self, task, heard=None):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is None:
            await asyncio.Event().wait()
        return self.outcome

    async def stop(self):
        self.stopped = True


class OneModel:
    def __init__(self, toy):
        self.model = ListedModel("local/toy", "toy", "small", str(toy), None, ())

    def find(self, name):
        return self.model


async def queued(store, player, toy):
    """A queue, and a job in it that will be taken up."""
    downloads = Downloads(store, lambda: None)
    models: Any = OneModel(toy)
    jobs = Jobs(Settings(store.folder), store, models, downloads, Pool([player]), Metrics())
    await jobs.start()
    name, path = store.new_input()
    path.write_bytes(b"")
    with jobs.admission.reserve() as room:
        model = OneModel(toy).model
        job = await jobs.submit(SPEC, model, Input(name, 8_000, 1, 1, 0), room)
    return jobs, job


def next_start(folder):
    """What the next start finds: the states and the crashes of all jobs."""
    store = Store(folder)
    waiting = {job.id: job.crashes for job in store.recover()}
    rows = store.database.rows("SELECT state, deaths FROM jobs")
    store.close()
    assert all(crashes == 0 for crashes in waiting.values())
    return [(row["state"], row["deaths"]) for row in rows]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("held", "outcome", "state"),
    [
        ("begin", None, QUEUED),
        ("complete", OUTCOME, COMPLETED),
        ("end", TaskError("the model is damaged"), FAILED),
    ],
)
def test_a_stop_while_a_job_is_written_down_is_no_crash(tmp_path, toy, held, outcome, state, when):
    async def scene():
        store = HeldStore(tmp_path, held, when)
        jobs, _ = await queued(store, Player(outcome), toy)
        assert await asyncio.to_thread(store.reached.wait, 30)
        closing = asyncio.create_task(jobs.close())
        for _ in range(5):
            await asyncio.sleep(0)
        store.go.set()
        await closing
        store.close()

    asyncio.run(scene())
    assert next_start(tmp_path) == [(state, 0)]


def test_a_stop_while_a_job_runs_is_no_crash(tmp_path, toy):
    async def scene():
        store, player = Store(tmp_path), Player()
        jobs, _ = await queued(store, player, toy)
        while not jobs.running:
            await asyncio.sleep(0.001)
        await jobs.close()
        assert player.stopped
        store.close()

    asyncio.run(scene())
    assert next_start(tmp_path) == [(QUEUED, 0)]


@pytest.mark.parametrize("full_to_the_end", [False, True])
def test_an_end_that_found_the_disk_full_is_written_with_the_stop(tmp_path, toy, full_to_the_end):
    async def scene():
        store = HeldStore(tmp_path)

        class Filling(Player):
            async def run(self, task, heard=None):
                store.full = True
                return await super().run(task)

        player = Filling(TaskError("the model is damaged"))
        jobs, job = await queued(store, player, toy)
        while (view := jobs.view(job.id)).job.state != FAILED:
            await asyncio.sleep(0.001)
        assert view.job.error == "the model is damaged"
        store.full = full_to_the_end
        await jobs.close()
        assert player.stopped
        store.close()

    asyncio.run(scene())
    if full_to_the_end:  # then there is no way to tell it from a crash
        with sqlite3.connect(tmp_path / "segue.db") as db:
            assert db.execute("SELECT state FROM jobs").fetchall() == [("running",)]
    else:
        assert next_start(tmp_path) == [(FAILED, 0)]


class Heeding(Player):
    """Plays until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.told = asyncio.Event()

    async def run(self, task, heard=None):
        await self.told.wait()
        raise TaskCancelledError

    def cancel(self, name):
        self.told.set()


@pytest.mark.parametrize("full", [False, True])
def test_who_cancels_is_told_so_however_long_it_takes_to_write_down(tmp_path, toy, full):
    async def scene():
        store = HeldStore(tmp_path, None if full else "end", "before")
        jobs, job = await queued(store, Heeding(), toy)
        while not jobs.running:
            await asyncio.sleep(0.001)
        store.full = full
        cancelling = asyncio.create_task(jobs.cancel(job))
        if not full:
            assert await asyncio.to_thread(store.reached.wait, 30)
            await asyncio.sleep(0.3)  # more than `cancel` waits between two looks
            assert not cancelling.done()
            store.go.set()
        assert await cancelling
        assert jobs.view(job.id).job.state == CANCELLED
        store.full = False
        await jobs.close()
        store.close()

    asyncio.run(scene())


def test_a_job_that_is_cancelled_while_it_begins_is_not_run(tmp_path, toy):
    async def scene():
        store = HeldStore(tmp_path, "begin", "after")
        jobs, job = await queued(store, Heeding(), toy)
        assert await asyncio.to_thread(store.reached.wait, 30)
        assert await jobs.cancel(job)
        store.go.set()
        for _ in range(100):
            assert not jobs.running
            assert jobs.rows == 0
            await asyncio.sleep(0.001)
        await jobs.close()
        store.close()

    asyncio.run(scene())
