"""Which worker takes a job, and what all of them keep loaded together."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from segue.channel import Message
from segue.checkpoints.adapters import AdapterChoice
from segue.service.exceptions import TaskError, WorkerDiedError
from segue.service.model_tag import model_tag
from segue.service.workers.interface import WorkerClient, ignore
from segue.service.workers.pool import Demand, Pool


@dataclass
class Recorder:
    """A worker that says what it holds, and does nothing; it loads what a test tells it to.

    Attributes:
        sizes: bytes of models, by their tags; those of others are 1.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    tasks: list[Message] = field(default_factory=list)
    error: Exception | None = None
    crashes: int = 0
    cannot_start: str | None = None
    alive: bool = False
    available: bool = True
    on_end: Any = None

    async def run(self, task, on_message=ignore):
        self.alive = True
        self.tasks.append(task)
        await asyncio.sleep(0)
        if task["kind"] == "drop":
            del self.held[task["model"]]
            return {}
        if self.error is not None:
            raise self.error
        self.held[task["model"]] = self.sizes.get(task["model"], 1)
        on_message({"generating": True, "held": dict(self.held), "memory": 1})
        return {"done": True, "memory": 1 + sum(self.held.values())}

    async def start(self):
        await asyncio.sleep(0)
        self.alive = self.available = True

    def cancel(self, name):
        self.tasks.append({"cancel": name})

    def listen(self, name):
        self.tasks.append({"listen": name})

    async def stop(self):
        if self.alive:
            self.alive = False
            self.held.clear()
            self.on_end()


@pytest.fixture
def recorders():
    return [Recorder() for _ in range(3)]


def pool_of(workers: list[Any], **options: Any) -> Pool:
    clients: list[WorkerClient] = workers
    return Pool(clients, **options)


def demand(job, model="a", rows=1, **more):
    return Demand(job, model, rows, **more)


def begin(pool, *demands):
    """Begin jobs in their order; the workers that take them, None for one that has to wait."""
    taken = []
    for each in demands:
        place = pool.find(each)
        taken.append(None if place is None else place.number)
        if place is not None:
            pool.take(place, each)
    return taken


def run(pool, each):
    """Run a job to its end."""

    async def scene():
        (number,) = begin(pool, each)
        try:
            return number, await pool.run(each.job, {"kind": "generate", "model": each.model})
        finally:
            pool.release(pool.places[number], each.job)

    return asyncio.run(scene())


@pytest.mark.parametrize(
    ("other", "runs"),
    [
        (demand("b"), True),
        (demand("b", rows=3), True),
        (demand("b", rows=4), False),
        (demand("b", "another"), False),
        (demand("b", alone=True), False),
    ],
)
def test_jobs_of_one_model_share_a_worker_as_far_as_there_is_room(other, runs):
    assert begin(pool_of([Recorder()], batch_rows=4), demand("a"), other) == [
        0,
        0 if runs else None,
    ]
    assert begin(pool_of([Recorder()]), demand("a"), other) == [0, None]
    assert begin(pool_of([Recorder()], batch_rows=4), other) == [0]  # alone, however large


def test_what_is_quantized_or_adapted_is_another_model():
    adapted = [model_tag("a", "none", [AdapterChoice("x", scale)]) for scale in (1, 0.5)]
    tags = {model_tag("a", "none", ()), model_tag("a", "q4", ()), *adapted}
    assert len(tags) == 4
    assert model_tag("a", "none", [AdapterChoice("/folder/of/x", 1)]) == adapted[0]


def test_a_batch_is_filled_before_another_worker_begins_one(recorders):
    pool = pool_of(recorders, batch_rows=2)
    jobs = [demand(str(n)) for n in range(7)]
    assert begin(pool, *jobs) == [0, 0, 1, 1, 2, 2, None]
    pool.release(pool.places[1], "3")
    assert begin(pool, demand("7", "b"), demand("8")) == [None, 1]


def test_what_a_worker_says_of_itself_is_kept_and_not_passed_on():
    pool = pool_of([Recorder(sizes={"a": 7})])
    assert run(pool, demand("a"))[1] == {"done": True}
    assert (pool.places[0].bytes, pool.places[0].memory) == (7, 8)


def test_a_job_goes_to_the_worker_that_holds_its_model(recorders):
    pool = pool_of(recorders)
    assert [run(pool, demand(m, m))[0] for m in "abcab"] == [0, 1, 2, 0, 1]
    assert run(pool, demand("x", "x"))[0] == 2  # idle for the longest
    assert run(pool, demand("c", "c"))[0] == 2
    assert "b" in pool.places[1].models


def test_a_job_that_may_have_ended_a_worker_has_one_for_itself(recorders):
    pool = pool_of(recorders, batch_rows=4)
    assert begin(pool, demand("a", alone=True), demand("b"), demand("c")) == [0, 1, 1]
    assert begin(pool, demand("d", alone=True), demand("e", alone=True)) == [2, None]


def test_memory_is_bounded_for_all_of_them_together(recorders):
    pool = pool_of(recorders, budget=100)
    for recorder in recorders:
        recorder.sizes = {"a": 40, "b": 40, "c": 50, "huge": 400}
    for n, model in enumerate("ab"):
        run(pool, demand(model, model, bytes=40))
        assert recorders[n].tasks[-1]["room"] == 100 - 40 * n
    run(pool, demand("c", "c", bytes=50))
    assert [list(r.held) for r in recorders] == [[], ["b"], ["c"]]  # "a" was used longest ago
    assert recorders[2].tasks[-1]["room"] == 60
    run(pool, demand("huge", "huge", bytes=400))
    assert [list(r.held) for r in recorders] == [["huge"], [], []]
    assert [place.bytes for place in pool.places] == [400, 0, 0]


def test_a_model_waits_for_room_that_busy_workers_take(recorders):
    pool = pool_of(recorders, budget=100)
    assert begin(pool, demand("1", "a", bytes=60), demand("2", "b", bytes=60)) == [0, None]
    assert begin(pool, demand("3", "b", bytes=40), demand("4", "c", bytes=1)) == [1, None]
    pool.release(pool.places[0], "1")
    assert begin(pool, demand("5", "huge", bytes=400)) == [None]
    pool.release(pool.places[1], "3")
    assert begin(pool, demand("6", "huge", bytes=400)) == [2]


def test_how_large_a_model_is_is_learned(recorders):
    pool = pool_of(recorders, budget=100)
    recorders[0].sizes = {"a": 10}
    assert not pool.knows("a")
    run(pool, demand("1", "a", bytes=80))
    assert pool.knows("a")
    assert begin(pool, demand("2", "b", bytes=80), demand("3", "a", bytes=80)) == [1, 0]


@pytest.mark.parametrize("error", [TaskError("the audio is damaged"), WorkerDiedError("it died")])
def test_a_worker_that_failed_is_not_believed_to_hold_the_model(recorders, error):
    pool = pool_of(recorders)
    recorders[0].error = error
    with pytest.raises(TaskError):
        run(pool, demand("1"))
    assert not pool.places[0].models
    recorders[0].error = None
    run(pool, demand("2"))
    recorders[0].error = TaskError("the audio is damaged")
    with pytest.raises(TaskError):
        run(pool, demand("3"))
    assert list(pool.places[0].models) == ["a"]


def test_a_worker_that_ended_holds_nothing(recorders):
    pool = pool_of(recorders)
    run(pool, demand("1"))
    run(pool, demand("2", "b"))
    asyncio.run(recorders[0].stop())
    assert [list(place.models) for place in pool.places] == [[], ["b"], []]
    assert run(pool, demand("3", "c"))[0] == 0


def test_workers_beyond_those_kept_begin_when_needed_and_end_when_idle(recorders):
    now = [0.0]
    pool = pool_of(recorders, kept=1, idle_seconds=60.0, clock=lambda: now[0])
    assert run(pool, demand("1", "a"))[0] == 0
    assert run(pool, demand("2", "b"))[0] == 0  # none is started for another model alone
    assert begin(pool, demand("3", "a"), demand("4", "a")) == [0, 1]
    recorders[1].alive = True
    pool.release(pool.places[1], "4")
    now[0] = 59.0
    assert asyncio.run(pool.shrink()) == 0
    now[0] = 61.0
    assert asyncio.run(pool.shrink()) == 1
    assert (recorders[0].alive, recorders[1].alive) == (True, False)
    assert not pool.places[1].models


def test_workers_that_take_a_while_to_start_are_started_for_those_that_wait(recorders):
    """No job waits for a worker that may never come, while another becomes free."""
    pool, started = pool_of(recorders, kept=1, batch_rows=2), []
    for recorder in recorders:
        recorder.available = False
    pool.on_start = lambda: started.append([r.available for r in recorders])

    async def scene():
        assert begin(pool, demand("1")) == [None]
        pool.grow(rows=3)
        pool.grow(rows=3)  # they are on their way
        assert begin(pool, demand("1")) == [None]
        while len(started) < 2:
            await asyncio.sleep(0)
        assert begin(pool, demand("1"), demand("2", "b"), demand("3", "c")) == [0, 1, None]

    asyncio.run(scene())
    assert started[-1] == [True, True, False]


def test_the_default_model_is_loaded_on_all_as_far_as_memory_has_room(recorders):
    for budget, warm in ((None, 3), (100, 2), (10, 1)):
        for recorder in recorders:
            recorder.held, recorder.sizes = {}, {"a": 40}
        pool = pool_of(recorders, budget=budget)
        outcome = asyncio.run(pool.warm({"kind": "load", "model": "a"}, "a", 50))
        assert outcome == {"done": True}
        assert [len(place.models) for place in pool.places] == [1] * warm + [0] * (3 - warm)


def test_who_cancels_or_listens_reaches_the_worker_of_the_job(recorders):
    pool = pool_of(recorders)
    begin(pool, demand("1"), demand("2"))
    pool.cancel("2")
    pool.listen("1")
    pool.cancel("unknown")
    assert [r.tasks for r in recorders] == [[{"listen": "1"}], [{"cancel": "2"}], []]


def test_a_job_that_begins_elsewhere_before_its_first_place_is_released_stays_there(recorders):
    pool = pool_of(recorders)
    begin(pool, demand("1"))
    begin(pool, demand("1"))
    pool.release(pool.places[0], "1")
    assert pool.place_of("1") is pool.places[1]
    assert not pool.places[0].jobs


def test_a_worker_that_dies_while_it_drops_a_model_has_dropped_it(recorders):
    pool = pool_of(recorders, budget=1)
    run(pool, demand("1", "a"))

    async def died(task, on_message=ignore):
        raise WorkerDiedError("it died")

    recorders[0].run = died
    recorders[0].held.clear()
    pool.take(pool.places[1], demand("2", "b", bytes=1))
    assert asyncio.run(pool.run("2", {"kind": "generate", "model": "b"})) == {"done": True}
    assert [list(place.models) for place in pool.places] == [[], ["b"], []]
