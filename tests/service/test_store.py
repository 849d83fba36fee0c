"""What is kept, and what a start makes of what it finds."""

import sqlite3
import time

import pytest

from segue.errors import SegueError
from segue.service.store import COMPLETED, FAILED, QUEUED, RUNNING, Input, Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


def add(store, size=100):
    name, path = store.new_input()
    path.write_bytes(bytes(size))
    return store.add({"request": {}}, Input(name, 44_100, 2, 1000, size))


def complete(store, job, size=50):
    begun = store.begin(job)
    folder = store.attempt_folder(begun)
    folder.mkdir(parents=True)
    (folder / "take-1.wav").write_bytes(bytes(size))
    done = store.complete(begun, {"takes": [{"file": "take-1.wav", "bytes": size}]})
    return begun, done


def test_jobs_are_kept_in_their_order(store):
    jobs = [add(store) for _ in range(3)]
    store.begin(jobs[0])
    assert [job.id for job in store.waiting()] == [job.id for job in jobs]
    assert [job.state for job in store.waiting()] == [RUNNING, QUEUED, QUEUED]


def test_a_job_begins_once_and_is_completed_once(store):
    job = add(store)
    begun, done = complete(store, job)
    assert done
    assert store.begin(job) is None
    assert not store.complete(begun, {"takes": []})
    assert not store.end(job.id, FAILED, "late")
    assert (store.attempt_folder(begun) / "take-1.wav").exists()
    assert store.job(job.id).state == COMPLETED


def test_a_job_the_service_died_of_lets_the_others_go_first(tmp_path):
    store = Store(tmp_path)
    jobs = [add(store) for _ in range(3)]
    store.begin(jobs[0])
    store.close()  # without a word, as when it is killed
    store = Store(tmp_path)
    assert [(job.id, job.deaths) for job in store.recover()] == [
        (jobs[1].id, 0),
        (jobs[2].id, 0),
        (jobs[0].id, 1),
    ]
    store.begin(store.job(jobs[1].id))
    store.put_back(jobs[1].id)
    store.close()
    store = Store(tmp_path)
    assert [job.deaths for job in store.recover()] == [0, 0, 1]
    store.close()


def test_a_transaction_that_finds_the_disk_full_leaves_the_next_one_be(store):
    job = add(store)
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add({"request": {"text": "a" * 100_000}}, store.input(job.input))
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert [kept.id for kept in store.waiting()] == [job.id]
    assert store.begin(job).state == RUNNING


def test_an_attempt_that_was_overtaken_does_not_count(store):
    first = store.begin(add(store))
    store.put_back(first.id)
    second = store.begin(store.job(first.id))
    assert (first.attempts, second.attempts) == (1, 2)
    assert not store.complete(first, {"takes": []})
    assert store.complete(second, {"takes": []})


def test_a_start_queues_what_was_interrupted_and_removes_what_no_row_names(tmp_path):
    store = Store(tmp_path)
    interrupted, done = store.begin(add(store)), add(store)
    complete(store, done)
    half = store.attempt_folder(interrupted)
    half.mkdir(parents=True)
    (half / "take-1.part").write_bytes(b"half")
    _, orphan = store.new_input()
    orphan.write_bytes(b"nobody's")
    (store.uploads / "x.json").write_bytes(b"on its way")
    (store.jobs / "unknown" / "1").mkdir(parents=True)
    store.close()

    store = Store(tmp_path)
    (again,) = store.recover()
    assert (again.id, again.state, again.attempts) == (interrupted.id, QUEUED, 1)
    assert not half.exists()
    assert not orphan.exists()
    assert list(store.uploads.iterdir()) == []
    assert [path.name for path in store.jobs.iterdir()] == [done.id]
    assert store.take_path(store.job(done.id), 1).read_bytes() == bytes(50)
    store.close()


def test_a_sweep_takes_the_old_and_then_the_oldest(store):
    jobs = [add(store, 100) for _ in range(4)]
    for job in jobs[:3]:
        complete(store, job, 50)
    assert store.sweep(3600, 10_000) == 0
    assert store.sweep(3600, 400) == 1
    assert store.job(jobs[0].id) is None
    assert store.bytes() == 400
    assert len(list(store.inputs.iterdir())) == 3
    time.sleep(0.01)
    assert store.sweep(0.001, 10_000) == 2
    assert [job.id for job in store.waiting()] == [jobs[3].id]
    assert store.sweep(0.001, 0) == 0  # what waits is not taken, whatever the bound


def test_an_input_stays_while_a_retry_needs_it(store):
    job = add(store)
    complete(store, job)
    retry = store.add({"request": {}}, store.input(job.input))
    time.sleep(0.01)
    store.sweep(0.001, 10_000)
    assert store.job(job.id) is None
    assert store.input_path(retry.input).exists()


def test_a_database_of_another_version_is_left_alone(tmp_path):
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "segue.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SegueError, match="another version of segue"):
        Store(tmp_path)


def test_names_from_clients_are_only_compared(store):
    for name in ("", "' OR 1=1 --", "../../etc/passwd", "a" * 10_000, "\0", "\ud800"):
        assert store.job(name) is None
