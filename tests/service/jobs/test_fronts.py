"""Several fronts on one database and folder: each job is run by one, and counted once.

`tests/service/postgres` runs the same on a server; here two connections to a SQLite file stand for
two machines.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from segue.errors import SegueError
from segue.service.clients import Client
from segue.service.exceptions import RefusalError
from segue.service.jobs.rows import CANCELLED, COMPLETED, FAILED, QUEUED, RUNNING, Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.sqlite_database import SqliteDatabase
from segue.service.jobs.store import QueueFullError, Store
from segue.service.jobs.usage import LimitReachedError, seconds_of

SPEC = JobSpec("native", "built-in")
LEASE = 0.2


@pytest.fixture
def connect(tmp_path):
    """Opens the database that the fronts share, once more."""
    return lambda: SqliteDatabase(tmp_path / "shared.db")


@pytest.fixture
def fronts(tmp_path, connect):
    """Makes another front."""
    made = []

    def make(folder=tmp_path / "state"):
        made.append(Store(folder, database=connect(), lease_seconds=LEASE))
        return made[-1]

    yield make
    for store in made:
        store.close()


def add(store, **options):
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    return store.add(SPEC, Input(name, 44_100, 2, 1000, 100), **options)


def taken_over(store):
    """What a front does until it has taken over the jobs of another that is silent."""
    end = time.monotonic() + 60
    while any(job.state == RUNNING and job.front != store.front for job in store.waiting()):
        assert time.monotonic() < end, "the lease does not run out"
        store.fronts.beat(1, {})
        store.fronts.take_over()
        time.sleep(LEASE / 10)


def test_a_job_that_two_fronts_want_begins_on_one(fronts):
    a, b = fronts(), fronts()
    job = add(a)
    begun = a.begin(job)
    assert (begun.front, begun.attempts) == (a.front, 1)
    assert b.begin(job) is None
    assert b.job(job.id) == begun
    assert [(each.id, each.state, each.front) for each in b.queue()] == [(job.id, RUNNING, a.front)]


def test_the_jobs_of_a_front_that_falls_silent_are_queued_again_once(fronts):
    a, b = fronts(), fronts()
    running, waiting = add(a), add(a)
    folder = a.attempt_folder(a.begin(running))
    folder.mkdir(parents=True)
    (folder / "take-1.part").write_bytes(b"half")
    taken_over(b)
    assert [(job.id, job.state, job.crashes, job.front) for job in b.waiting()] == [
        (waiting.id, QUEUED, 0, b.front),
        (running.id, QUEUED, 1, b.front),
    ]
    assert not folder.exists()
    assert b.fronts.take_over() == []
    assert b.job(running.id).crashes == 1


def test_what_a_front_finishes_after_its_lease_ran_out_is_dropped(fronts):
    a, b = fronts(), fronts()
    late = a.begin(add(a))
    taken_over(b)
    assert not a.complete(late, {"takes": []})
    assert not a.end(late.id, FAILED, "late", late.attempts)
    assert not a.put_back(late.id, late.attempts)
    again = b.begin(b.job(late.id))
    assert (again.attempts, again.crashes) == (2, 1)
    assert not a.complete(late, {"takes": []})
    assert not a.end(late.id, FAILED, "late", late.attempts)
    assert b.complete(again, {"takes": []})
    assert b.job(late.id).state == COMPLETED


def test_a_front_without_a_lease_begins_nothing_until_it_has_one_again(fronts):
    a, b = fronts(), fronts()
    job = add(b)
    a.begin(add(a))
    taken_over(b)
    assert a.begin(job) is None
    assert not a.uploads.exists()
    a.fronts.beat(1, {})
    assert a.begin(job).front == a.front
    assert a.uploads.is_dir()


def test_a_front_that_was_silent_itself_takes_nothing_over_at_once(fronts):
    """As where the database was gone: whoever reaches it first must not take the others' jobs."""
    a, b = fronts(), fronts()
    job = a.begin(add(a))
    time.sleep(2 * LEASE)
    for front in (b, a, b):
        front.fronts.beat(1, {})
        front.fronts.take_over()
    assert b.job(job.id) == job


def test_a_front_that_is_stopped_leaves_its_jobs_to_the_others(fronts):
    a, b = fronts(), fronts()
    job, other = a.begin(add(a)), add(a)
    a.put_back(job.id, job.attempts)
    a.fronts.leave()
    b.fronts.take_over()
    assert [(each.id, each.front, each.crashes) for each in b.waiting()] == [
        (job.id, b.front, 0),
        (other.id, b.front, 0),
    ]


def test_fronts_say_how_far_their_jobs_are(fronts):
    a, b = fronts(), fronts()
    a.fronts.beat(4, {"x": {"fraction": 0.5}})
    b.fronts.beat(2, {})
    assert b.fronts.others().progress == {"x": {"fraction": 0.5}}
    assert a.fronts.others().progress == {}
    assert b.fronts.others().places == 6


def test_the_queue_of_all_fronts_together_has_one_order_and_one_bound(fronts):
    a, b = fronts(), fronts()
    jobs = [add(front, most=4) for front in (a, b, a, b)]
    for front in (a, b):
        assert [each.id for each in front.queue()] == [job.id for job in jobs]
        with pytest.raises(QueueFullError):
            add(front, most=4)
    a.begin(jobs[0])
    add(b, most=4)


def test_what_is_cancelled_on_another_front_is_cancelled(fronts):
    a, b = fronts(), fronts()
    waits, runs = add(a), a.begin(add(a))
    for job in (waits, runs):
        assert b.end(job.id, CANCELLED, "the music was cancelled")
    assert a.begin(waits) is None
    assert not a.complete(runs, {"takes": []})
    assert a.queue() == []


def test_an_input_that_another_front_makes_a_job_of_stays(fronts):
    a, b = fronts(), fronts()
    done = a.begin(add(a))
    a.complete(done, {"takes": []})
    with a.holding(done.input), a.holding(done.input):
        b.sweep(keep_seconds=-1, limit=0)
        assert b.job(done.id) is None
        assert a.input_path(done.input).exists()
    b.sweep(keep_seconds=-1, limit=0)
    assert not a.input_path(done.input).exists()
    with pytest.raises(RefusalError, match="not known any more"), a.holding(done.input):
        pass


def test_what_another_front_is_about_to_keep_is_no_leftover(fronts):
    a = fronts()
    (a.uploads / "x.json").write_bytes(b"on its way")
    _, path = a.new_input()
    path.write_bytes(b"decoded, its row comes next")
    b = fronts()
    assert b.recover() == []
    assert path.exists()
    assert (a.uploads / "x.json").exists()


def test_fronts_with_other_folders_are_refused(fronts, tmp_path):
    fronts()
    with pytest.raises(SegueError, match=r"other is not the folder.*--state-dir"):
        fronts(tmp_path / "other")


def test_a_folder_of_fronts_is_not_one_front_s_alone(fronts, tmp_path):
    fronts()
    with pytest.raises(SegueError, match="another segue serve uses it"):
        Store(tmp_path / "state")


def test_each_job_begins_once_however_many_reach_for_it(fronts):
    stores = [fronts() for _ in range(3)]
    jobs = [add(store) for _ in range(4) for store in stores]
    begun = [store.begin(job) for job in jobs for store in stores]
    assert [job.id for job in begun if job is not None] == [job.id for job in jobs]
    turn = count()
    for job in filter(None, begun):
        assert stores[next(turn) % 3].complete(job, {"takes": []})
    assert stores[0].counts() == {COMPLETED: len(jobs)}


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({"jobs_at_once": 7}, "jobs_at_once"),
        ({"seconds_per_day": 7.5 * seconds_of(SPEC)}, "seconds_per_day"),
    ],
)
def test_a_client_s_limits_are_of_all_fronts_together(fronts, limits, reached):
    anna = Client("anna", **limits)
    servers = [fronts() for _ in range(4)]

    def one(n):
        try:
            return add(servers[n % 4], client=anna)
        except LimitReachedError as error:
            return error.limit

    with ThreadPoolExecutor(12) as threads:
        done = list(threads.map(one, range(12)))
    assert done.count(reached) == 5
    assert {job.client for job in done if job != reached} == {"anna"}
    assert add(servers[0], client=Client("bert")).client == "bert"
