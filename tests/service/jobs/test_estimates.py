"""How long it is said to take: learned from what was played, by a clock that the test moves."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from segue.service.jobs.downloads import Downloads
from segue.service.jobs.estimates import UNKNOWN_LOAD, UNKNOWN_RATE, Estimates
from segue.service.jobs.models import ModelList
from segue.service.jobs.progress import Speed
from segue.service.jobs.queue import Jobs
from segue.service.jobs.rows import Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.metrics import Metrics
from segue.service.quantization import Quantization
from segue.service.settings import Settings
from segue.service.workers.pool import Pool

INPUT = Input("00000000-0000-0000-0000-000000000000", 44_100, 2, 44_100, 100)


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


def spec(seconds=20.0, variations=1, model="a", quantization="none"):
    return JobSpec(
        "native",
        model,
        Quantization(quantization, None),
        prompt_seconds=1.0,
        output_seconds=seconds,
        variations=variations,
    )


# --- What is learned ------------------------------------------------------------------------------


def test_before_any_run_real_time_is_assumed(store):
    estimate = Estimates(store).of(spec(21))
    assert (estimate.load, estimate.generate) == (UNKNOWN_LOAD, 20 * UNKNOWN_RATE)


def test_the_first_run_is_believed_and_later_ones_count_three_tenths(store):
    estimates = Estimates(store)
    estimates.learn(spec(21), 4.0, 10.0)
    estimate = estimates.of(spec(41))
    assert (estimate.load, estimate.generate) == pytest.approx((4, 20))
    estimates.learn(spec(21), None, 20.0)  # it was loaded already
    estimate = estimates.of(spec(41))
    assert (estimate.load, estimate.generate) == pytest.approx((4, (0.7 * 0.5 + 0.3 * 1) * 40))


def test_models_quantizations_and_numbers_of_takes_are_learned_apart(store):
    estimates = Estimates(store)
    others: tuple[dict[str, Any], ...] = (
        {},
        {"variations": 2},
        {"quantization": "q4_decoder_linears"},
        {"model": "b"},
    )
    for play_s, kind in enumerate(others, 1):
        estimates.learn(spec(2, **kind), 1.0, play_s)
    assert [estimates.of(spec(2, **kind)).generate for kind in others] == pytest.approx(
        [1, 2, 3, 4]
    )
    # One that never played is guessed from all that did.
    assert estimates.of(spec(2, model="c")).generate == pytest.approx(2.5)


def test_what_was_learned_outlives_the_service(store):
    Estimates(store).learn(spec(), 4.0, 9.5)
    estimate = Estimates(store).of(spec())
    assert (estimate.load, estimate.generate) == pytest.approx((4, 9.5))


# --- What is told ---------------------------------------------------------------------------------


class Player:
    """Plays nothing: a test says what a worker would, and when it is done."""

    available = True

    def __init__(self):
        self.begun = asyncio.Event()

    async def run(self, task, on_message):
        self.send, self.done = on_message, asyncio.get_running_loop().create_future()
        self.begun.set()
        try:
            return await self.done
        finally:
            self.begun.clear()

    async def stop(self):
        pass

    def plays(self):
        self.send({"generating": True, "engine": "mlx", "device": "cpu", "quantization": None})

    def ends(self, load_s, play_s):
        takes = [{"file": "take-1.wav", "bytes": 1}]
        outcome = {"engine": "mlx", "device": "cpu", "takes": takes, "new_seconds": 1.0}
        self.done.set_result(outcome | {"load_s": load_s, "play_s": play_s})


@pytest.fixture
def queue(store, toy, tmp_path, monkeypatch):
    """A queue by a clock that stands, whose player does what it is told; how to submit to it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    models = ModelList([toy])
    (tmp_path / "state" / "inputs" / f"{INPUT.id}.wav").touch()

    @asynccontextmanager
    async def opened():
        clock = Clock()
        player: Any = Player()
        settings = Settings(store.folder)
        downloads, pool = Downloads(store, player), Pool([player])
        jobs = Jobs(settings, store, models, downloads, pool, Metrics(), clock)

        async def submit(**kind):
            model = models.find(f"local/{toy.name}")
            with jobs.admission.reserve() as room:
                job = await jobs.submit(spec(**kind, model=model.path), model, INPUT, room)
            return job.id

        await jobs.start()
        try:
            yield jobs, submit, player, clock
        finally:
            await jobs.close()

    return opened


def test_a_wait_is_what_is_left_of_the_running_job_and_all_queued_ones_before(queue):
    async def run():
        async with queue() as (jobs, submit, player, clock):
            first = await submit(seconds=20, variations=2)
            await player.begun.wait()
            assert jobs.view(first).seconds == UNKNOWN_LOAD + 19
            player.plays()
            player.ends(load_s=3.0, play_s=9.5)
            while jobs.view(first).job.finished is None:
                await asyncio.sleep(0)
            playing, second, third = [await submit(seconds=58, variations=2) for _ in range(3)]
            await player.begun.wait()
            assert jobs.view(playing).seconds == pytest.approx(3 + 57 / 2)
            player.plays()
            clock.now += 10
            waits = [jobs.view(job).seconds for job in (playing, second, third)]
            assert waits == pytest.approx([57 / 2 - 10, 57 / 2 - 10, 57 - 10])
            # How it goes says more than how it went.
            player.send({"stage": "decode", "done": 0, "total": 1, "unit": ""})
            waits = [jobs.view(job).seconds for job in (playing, second)]
            assert waits == pytest.approx(2 * [10 * 0.05 / 0.95])

    asyncio.run(run())


def test_a_job_that_takes_longer_than_ever_has_no_negative_estimate(queue):
    async def run():
        async with queue() as (jobs, submit, player, clock):
            job = await submit(seconds=20)
            await player.begun.wait()
            player.plays()
            clock.now += 100
            assert jobs.view(job).seconds == 0

    asyncio.run(run())


def test_the_speed_of_a_download_is_that_of_the_last_five_seconds():
    clock = Clock()
    speed = Speed(clock)
    assert speed.at(0) == 0
    for second in range(1, 11):
        clock.now += 1
        found = speed.at(1000 * second if second <= 5 else 5000 + 100 * (second - 5))
    assert found == 100
