"""What a client may have, and what it is told where that is used up."""

from dataclasses import replace

import pytest

from segue.errors import RequestError
from segue.service.clients import ANYONE, Client
from segue.service.exceptions import OverLimitError
from segue.service.jobs.client_limits import ClientLimits
from segue.service.jobs.estimates import Estimates
from segue.service.jobs.models import ListedModel
from segue.service.jobs.progress import JobProgress
from segue.service.jobs.rows import CANCELLED, FAILED, Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.jobs.usage import LimitReachedError, seconds_of
from segue.service.jobs.waiting import WaitingJob, WaitingJobs
from segue.service.metrics import Metrics

SPEC = JobSpec("native", "a", prompt_seconds=1.0, output_seconds=11.0)
SECONDS = seconds_of(SPEC)
MODEL = ListedModel("a", "a", "", "a", None, ())
NOON = 20_000 * 86_400.0 + 12 * 3600


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def day():
    return Clock(NOON)


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def store(tmp_path, day):
    store = Store(tmp_path / "state", day)
    yield store
    store.close()


@pytest.fixture
def waiting(store):
    return WaitingJobs(Estimates(store))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def limits(store, waiting, metrics, clock):
    return ClientLimits(store, waiting, metrics, clock)


def add(store, client, spec=SPEC):
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    return store.add(spec, Input(name, 44_100, 2, 44_100, 100), client=client)


def refused(call, *args):
    """The line of a refusal, and after how many seconds to come again."""
    with pytest.raises(OverLimitError) as caught:
        call(*args)
    return str(caught.value), caught.value.seconds


def test_requests_of_a_minute_are_counted_and_refused_ones_are_not(limits, clock, metrics):
    anna, bert = (Client(name, jobs_per_minute=3) for name in ("anna", "bert"))
    for clock.now in (0.0, 10.0):
        limits.check(anna, 0)
    limits.check_upload(anna)
    for clock.now in (10.0, 20.0, 59.5):
        line, seconds = refused(limits.check, anna, 0)
        assert seconds == 60 - clock.now
        assert refused(limits.check_upload, anna)[1] == seconds
    assert line == "3 requests a minute may begin music or bring audio; try again in 1 s"
    limits.check(bert, 0)
    clock.now = 60.0
    limits.check(anna, 0)
    assert refused(limits.check, anna, 0)[1] == 10.0
    assert refused(limits.check, replace(anna, jobs_per_minute=2), 0)[1] == 10.0
    text = metrics.text().decode()
    assert 'refusals_total{client="anna",limit="jobs_per_minute"} 8.0' in text
    assert 'client="bert"' not in text


def test_without_limits_nothing_is_refused(limits):
    for client in (ANYONE, Client("anna")):
        for _ in range(1000):
            limits.check(client, 1000)
            limits.check_upload(client)
        limits.check_seconds(client, replace(SPEC, output_seconds=300.0))


def test_jobs_that_wait_run_or_are_on_their_way_count(limits, store, waiting, clock):
    anna, bert = (Client(name, jobs_at_once=2) for name in ("anna", "bert"))
    limits.check(anna, 1)
    assert refused(limits.check, anna, 2)[0].startswith("2 of your requests wait or play")
    for client in (bert, anna, anna):
        job = add(store, client)
        waiting.add(WaitingJob(job, MODEL, 100, JobProgress(clock=clock)))
    line, seconds = refused(limits.check, anna, 0)
    assert seconds == pytest.approx(2 * SECONDS)  # at real time, behind Bert's
    assert line.endswith(f", as many as may at once; try again in {2 * SECONDS:.0f} s")
    limits.check(bert, 0)
    begun = store.begin(job)
    waiting.running.add(job.id)
    assert refused(limits.check, anna, 0)[1] == pytest.approx(SECONDS + 10)  # and a model to load
    store.complete(begun, {"takes": []})
    limits.check(anna, 0)


def test_seconds_of_a_day_are_counted_in_the_store(limits, store, day):
    anna = Client("anna", seconds_per_day=2.5 * SECONDS)
    for _ in range(2):
        limits.check(anna, 0)
        limits.check_seconds(anna, SPEC)
        job = add(store, anna)
    limits.check(anna, 0)  # a shorter one may follow
    limits.check_seconds(anna, replace(SPEC, output_seconds=6.0))
    line, seconds = refused(limits.check_seconds, anna, SPEC)
    assert line == (
        "20 of your 25 s of new music for today are used; ask for less, or come again after "
        "00:00 UTC, in 12 h"
    )
    assert seconds == 12 * 3600
    add(store, anna, replace(SPEC, output_seconds=6.0))
    line, _ = refused(limits.check, anna, 0)
    assert line == (
        "25 of your 25 s of new music for today are used; come again after 00:00 UTC, in 12 h"
    )
    store.end(job.id, CANCELLED, "before it began")
    limits.check(anna, 0)
    add(store, anna)
    day.now += 12 * 3600 - 100
    assert refused(limits.check, anna, 0)[1] == 100
    day.now += 100
    limits.check(anna, 0)
    limits.check_seconds(anna, replace(SPEC, variations=2))
    with pytest.raises(RequestError, match="30 s of new music, and 25 s a day are yours; ask"):
        limits.check_seconds(anna, replace(SPEC, variations=3))


def test_the_store_adds_nothing_beyond_a_limit(store):
    def kept():
        return [
            store.database.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"]
            for table in ("jobs", "inputs", "usage")
        ]

    anna = Client("anna", jobs_at_once=2, seconds_per_day=2.5 * SECONDS)
    first, second = add(store, anna), add(store, anna)
    with pytest.raises(LimitReachedError) as reached:
        add(store, anna)
    assert (reached.value.limit, reached.value.used) == ("jobs_at_once", 2)
    assert kept() == [2, 2, 2]
    store.begin(first)
    store.end(first.id, CANCELLED, "while it played")
    with pytest.raises(LimitReachedError) as reached:
        add(store, anna)
    assert (reached.value.limit, reached.value.used) == ("seconds_per_day", 2 * SECONDS)
    assert kept() == [2, 2, 2]
    add(store, Client("bert"))
    store.begin(second)
    store.end(second.id, FAILED, "it failed")
    add(store, anna)
