"""What is kept, and what a start makes of what it finds."""

import json
import sqlite3
import uuid
from dataclasses import replace

import pytest

from segue.errors import SegueError
from segue.service.clients import Client
from segue.service.jobs.kept import WHOLE_JOB
from segue.service.jobs.room import USAGE_SECONDS
from segue.service.jobs.rows import CANCELLED, COMPLETED, FAILED, QUEUED, RUNNING, Input, Parent
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from tests.disks import fill, small_disk

SPEC = JobSpec("native", "built-in")


class Clock:
    """Goes on a second whenever it is looked at, and farther when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = Store(tmp_path / "state", clock)
    yield store
    store.close()


def add(store, size=100, client=""):
    name, path = store.new_input()
    path.write_bytes(bytes(size))
    return store.add(SPEC, Input(name, 44_100, 2, 1000, size), client=Client(client))


def complete(store, job, size=50):
    begun = store.begin(job)
    folder = store.attempt_folder(begun)
    folder.mkdir(parents=True)
    (folder / "take-1.wav").write_bytes(bytes(size))
    done = store.complete(begun, {"takes": [{"file": "take-1.wav", "bytes": size}]})
    return begun, done


def test_what_the_store_did_not_name_is_ignored_and_stays(tmp_path):
    """Finder leaves `.DS_Store` wherever somebody looks, and people put things anywhere."""
    store = Store(tmp_path)
    _, done = complete(store, add(store))
    assert done
    store.close()
    for folder in (store.folder, store.jobs, store.inputs):
        (folder / ".DS_Store").write_bytes(b"Finder's")
        (folder / "my music").mkdir()
        (folder / "my music" / "song.wav").write_bytes(b"mine")
        (folder / "link").symlink_to("nowhere")
    job = next(path for path in store.jobs.iterdir() if len(path.name) == 36)
    (job / ".DS_Store").write_bytes(b"Finder's")
    (job / "1" / ".DS_Store").write_bytes(b"Finder's")
    (store.jobs / str(uuid.uuid4())).write_bytes(b"a file where a folder would be")
    (store.inputs / f"{uuid.uuid4()}.wav").mkdir()
    (store.inputs / f"{uuid.uuid4()}.part").write_bytes(b"half")

    store = Store(tmp_path)
    assert store.recover() == []
    assert (job / "1" / "take-1.wav").is_file()
    for folder in (store.folder, store.jobs, store.inputs):
        assert (folder / ".DS_Store").read_bytes() == b"Finder's"
        assert (folder / "my music" / "song.wav").read_bytes() == b"mine"
        assert (folder / "link").is_symlink()
    assert not list(store.inputs.glob("*.part"))
    store.sweep(keep_seconds=0, limit=0)
    assert not job.exists()
    store.close()


def test_a_full_disk_is_an_error_that_tells_to_make_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        with pytest.raises(SegueError, match=r"full.*make room") as error:
            Store(disk / "state")
        assert "\n" not in str(error.value)


def test_what_a_full_disk_refuses_leaves_the_store_as_it_was(tmp_path):
    with small_disk(tmp_path / "disk", size="2m") as disk:
        store = Store(disk / "state")
        job = add(store)
        fill(disk)
        assert not store.writable()
        long = replace(SPEC, text="x" * 3_000_000)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.add(long, store.input(job.input))
        (disk / "filler").unlink()
        assert store.writable()
        assert store.begin(job).state == RUNNING
        store.close()


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
    assert [(job.id, job.crashes) for job in store.recover()] == [
        (jobs[1].id, 0),
        (jobs[2].id, 0),
        (jobs[0].id, 1),
    ]
    store.begin(store.job(jobs[1].id))
    store.put_back(jobs[1].id)
    store.close()
    store = Store(tmp_path)
    assert [job.crashes for job in store.recover()] == [0, 0, 1]
    store.close()


def test_a_transaction_that_finds_the_disk_full_leaves_the_next_one_be(store):
    job = add(store)
    (pages,) = store.database.writer.execute("PRAGMA page_count").fetchone()
    store.database.writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add(replace(SPEC, text="a" * 100_000), store.input(job.input))
    store.database.writer.execute("PRAGMA max_page_count = 1000000")
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
    (store.jobs / str(uuid.uuid4()) / "1").mkdir(parents=True)
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


def test_a_sweep_takes_the_old_and_then_the_oldest(store, clock):
    jobs = [add(store, 100) for _ in range(4)]
    for job in jobs[:3]:
        complete(store, job, 50)
    assert store.sweep(3600, 10_000) == 0
    assert store.sweep(3600, 400) == 1
    assert store.job(jobs[0].id) is None
    assert store.bytes() == 400
    assert len(list(store.inputs.iterdir())) == 3
    clock.now += 3000
    assert store.sweep(3600, 10_000) == 0
    clock.now += 600
    assert store.sweep(3600, 10_000) == 2
    assert [job.id for job in store.waiting()] == [jobs[3].id]
    assert store.sweep(0, 0) == 0  # what waits is not taken, whatever the bound


def test_an_input_stays_while_a_retry_needs_it(store, clock):
    job = add(store)
    complete(store, job)
    retry = store.add(SPEC, store.input(job.input))
    clock.now += 60
    store.sweep(30, 10_000)
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


# --- Chains and inputs ----------------------------------------------------------------------------


def first_version(path):
    """A database as the first version made it, with a job in it."""
    with sqlite3.connect(path) as db:
        db.executescript(
            """
            CREATE TABLE inputs (id TEXT PRIMARY KEY, sample_rate INTEGER NOT NULL,
                channels INTEGER NOT NULL, frames INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
            CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL, input TEXT NOT NULL REFERENCES inputs (id),
                asked TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
                deaths INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, finished REAL,
                result TEXT, bytes INTEGER NOT NULL DEFAULT 0, error TEXT) STRICT;
            CREATE TABLE downloads (id TEXT PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL,
                error TEXT, created REAL NOT NULL, finished REAL) STRICT;
            CREATE TABLE speeds (key TEXT PRIMARY KEY, seconds REAL NOT NULL,
                count INTEGER NOT NULL) STRICT;
            PRAGMA user_version = 1;
            """
        )
        name, input_ = str(uuid.uuid4()), str(uuid.uuid4())
        db.execute("INSERT INTO inputs VALUES (?, 44100, 2, 1000, 100)", (input_,))
        db.execute(
            "INSERT INTO jobs (id, state, input, asked, created) VALUES (?, 'queued', ?, ?, 1.0)",
            (name, input_, json.dumps(SPEC.to_json())),
        )
    return name


def test_a_store_of_the_first_version_is_brought_to_this_one_once(tmp_path):
    name = first_version(tmp_path / "segue.db")
    for _ in range(2):
        store = Store(tmp_path)
        job = store.job(name)
        assert (job.parent, job.root, job.spec, job.client) == (None, name, SPEC, "")
        assert store.input(job.input).name == ""
        store.close()


def test_a_store_of_a_later_version_is_left_alone(tmp_path):
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "segue.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SegueError, match="another version of segue: schema 99"):
        Store(tmp_path)


def test_a_chain_keeps_its_root_whatever_becomes_of_it(store):
    first = add(store)
    complete(store, first)
    input_ = store.input(first.input)
    second = store.add(SPEC, input_, parent=Parent(first.id, 1, 2.5))
    assert second.parent == Parent(first.id, 1, 2.5)
    complete(store, second)
    store.sweep(keep_seconds=1e9, limit=store.bytes() - 1)
    assert store.job(first.id) is None
    third = store.add(SPEC, input_, parent=Parent(second.id, 1, 1.0))
    assert third.root == second.root == first.id


def test_an_input_that_a_job_is_being_made_of_is_not_swept(store):
    job = add(store)
    complete(store, job)
    with store.holding(job.input):
        store.sweep(keep_seconds=0, limit=0)
        assert store.input(job.input) is not None
        assert store.input_path(job.input).exists()
        again = store.add(SPEC, store.input(job.input))
    complete(store, again)
    store.sweep(keep_seconds=0, limit=0)
    assert store.input(job.input) is None
    assert not store.input_path(job.input).exists()


# --- What is kept ---------------------------------------------------------------------------------


def test_a_star_outlives_age_and_bound(store):
    jobs = [add(store) for _ in range(3)]
    for job in jobs:
        complete(store, job)
    store.kept.change(jobs[0].id, WHOLE_JOB, {"starred": True})
    store.kept.change(jobs[1].id, 1, {"starred": True})
    assert store.sweep(keep_seconds=0, limit=0) == 1
    assert [store.job(job.id) is not None for job in jobs] == [True, True, False]
    assert store.kept.starred_bytes() == store.bytes() == 2 * 150
    store.kept.change(jobs[1].id, 1, {"starred": False})
    assert store.sweep(keep_seconds=0, limit=1000) == 1


def test_what_was_removed_goes_after_a_while_star_or_not(store, clock):
    jobs = [add(store) for _ in range(2)]
    for job in jobs:
        complete(store, job)
        store.kept.change(job.id, WHOLE_JOB, {"starred": True})
    store.kept.remove(store.job(jobs[0].id))
    assert store.sweep(1e9, 1e9, undo_seconds=100) == 0
    clock.now += 100
    assert store.sweep(1e9, 1e9, undo_seconds=100) == 1
    assert store.job(jobs[0].id) is None
    assert store.kept.marks(jobs[0].id) == {}
    assert not (store.jobs / jobs[0].id).exists()


def test_a_take_that_was_removed_loses_its_files_and_the_others_stay(store, clock):
    job = store.begin(add(store))
    folder = store.attempt_folder(job)
    folder.mkdir(parents=True)
    takes = []
    for n in (1, 2):
        for what in ("take", "new"):
            (folder / f"{what}-{n}.wav").write_bytes(bytes(10))
        takes.append({"file": f"take-{n}.wav", "new": f"new-{n}.wav", "bytes": 20})
    store.complete(job, {"takes": takes})
    job = store.job(job.id)
    store.kept.remove(job, 1)
    store.sweep(1e9, 1e9, undo_seconds=100)
    assert store.kept.restore(job, 1, 100) is True
    store.kept.remove(job, 1)
    clock.now += 100
    for _ in range(2):
        assert store.sweep(1e9, 1e9, undo_seconds=100) == 0
        assert sorted(path.name for path in folder.iterdir()) == ["new-2.wav", "take-2.wav"]
        assert store.bytes() == 120
    assert store.kept.restore(job, 1, 1e9) is None
    assert store.kept.restore(job, 2, 1e9) is False


def test_what_was_removed_and_unused_inputs_make_room_first(store):
    jobs = [add(store) for _ in range(3)]
    for job in jobs:
        complete(store, job)
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    input_ = store.add_input(Input(name, 44_100, 2, 1000, 100))
    store.kept.remove(store.job(jobs[2].id))
    for left in (jobs[2].id, None, jobs[0].id):
        assert store.input(input_.id) is not None or left != jobs[2].id
        store.sweep(1e9, store.bytes() - 1, undo_seconds=1e9)
        assert left is None or store.job(left) is None
    assert store.input(input_.id) is None
    assert not path.exists()
    assert store.job(jobs[1].id) is not None


def test_an_input_of_its_own_is_kept_as_long_as_a_job(store, clock):
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    store.add_input(Input(name, 44_100, 2, 1000, 100))
    complete(store, add(store))
    clock.now += 1000
    store.sweep(500, 1 << 20)
    assert store.input(name) is None
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    used = store.add_input(Input(name, 44_100, 2, 1000, 100))
    job = store.add(SPEC, used)
    complete(store, job)
    store.sweep(500, 100)
    assert store.job(job.id) is None
    assert store.input(name) == used  # it is not as old as that
    assert path.exists()


# --- Clients --------------------------------------------------------------------------------------


def test_what_a_client_has_had_made_counts_though_it_is_removed(store, clock):
    length = SPEC.new_seconds
    kept = add(store, client="a")
    assert (kept.client, add(store).client) == ("a", "")
    add(store, client="b")
    complete(store, kept)
    assert store.usage.seconds("a", 0) == length
    store.sweep(keep_seconds=0, limit=0)
    assert store.job(kept.id) is None
    assert store.usage.seconds("a", 0) == length
    since = clock.now
    assert store.usage.seconds("a", since) == 0
    failed, cancelled, stopped = (add(store, client="a") for _ in range(3))
    for job in (failed, stopped):
        store.begin(job)
    assert store.usage.seconds("a", since) == 3 * length
    store.end(failed.id, FAILED, "it failed")
    store.end(cancelled.id, CANCELLED, "before it began")
    store.end(stopped.id, CANCELLED, "while it played")
    assert store.usage.seconds("a", since) == length
    clock.now += USAGE_SECONDS
    store.sweep(keep_seconds=1e9, limit=1 << 30)
    assert store.usage.seconds("a", 0) == 0
