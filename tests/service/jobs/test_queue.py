"""The queue: its order, cancelling, workers that die, and what survives what."""

import os
import signal
import sqlite3

import pytest

from segue.errors import SegueError
from segue.service.jobs.queue import MOST_CRASHES
from segue.service.jobs.store import Store
from tests.service.server import SECONDS, Server, decoded, encoded, song

SONG = song(2.0)
AUDIO = encoded(SONG)
ONE_AT_A_TIME = ("--batch-rows", "1")


@pytest.fixture(scope="module")
def own(tmp_path_factory, toy_options):
    """A service whose queue is empty whenever a test begins, and whose worker may be killed."""
    state = tmp_path_factory.mktemp("own") / "state"
    with Server(state, *toy_options, *ONE_AT_A_TIME) as server:
        yield server


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, toy_options):
    """A service with room for two that wait, and for 4 MB: a take of 6 s has 3."""
    room = ("--max-queue", "2", "--max-disk", str(4_000_000 / 2**30), "--keep", "1")
    options = (*room, *ONE_AT_A_TIME)
    state = tmp_path_factory.mktemp("narrow") / "state"
    with Server(state, *toy_options, *options) as server:
        yield server


def begin(server, seconds=2.0, **fields):
    answer = server.post(
        "/api/jobs",
        **({"audio_data": AUDIO, "prompt_seconds": 1, "output_seconds": seconds} | fields),
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def playing(server, job):
    """Wait until a job plays."""
    server.until(lambda: server.poll(job)["progress"] > 2, "it does not play")


def events(server, message):
    return [line for line in server.lines() if line["message"] == message]


# --- Waiting --------------------------------------------------------------------------------------


def test_the_queue_is_first_come_first_served_and_reports_positions(own):
    first = begin(own, 60)
    playing(own, first)
    others = [begin(own) for _ in range(3)]
    for n, job in enumerate(others, 1):
        poll = own.poll(job)
        assert poll["success"] is True
        assert poll["status"] == "processing"
        assert poll["generation_in_progress"] is True
        status = poll["queue_status"]
        assert (status["status"], status["position"], status["total_queued"]) == ("queued", n, 3)
        assert status["estimated_seconds"] > 0
        assert status["estimated_time"] == f"{status['estimated_seconds']}s"
    assert own.get("/health").json()["waiting"] == 3
    assert own.delete(f"/api/jobs/{others[1]}").status_code == 200
    assert own.poll(others[2])["queue_status"]["position"] == 2
    own.delete(f"/api/jobs/{first}")
    assert own.finished(others[0])["status"] == "completed"
    assert own.finished(others[2])["status"] == "completed"
    begun = [line["job"] for line in events(own, "job begins")]
    assert begun[-3:] == [first, others[0], others[2]]


def test_a_full_queue_refuses_clearly(narrow):
    jobs = [begin(narrow, 60)]
    playing(narrow, jobs[0])
    jobs += [begin(narrow) for _ in range(2)]
    for path, fields in (
        ("/api/juce/process_audio", {"audio_data": AUDIO}),
        ("/api/juce/retry_music", {"session_id": jobs[0]}),
        ("/api/jobs", {"audio_data": AUDIO}),
    ):
        answer = narrow.post(path, **fields)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "2 requests are waiting already" in answer.json()["error"]
    assert len(list((narrow.state / "inputs").iterdir())) == 3
    for job in reversed(jobs):
        narrow.delete(f"/api/jobs/{job}")


# --- Cancelling -----------------------------------------------------------------------------------


def test_a_running_job_stops_when_it_is_cancelled(own):
    job = begin(own, 300)
    playing(own, job)
    workers = own.workers()
    assert own.delete(f"/api/jobs/{job}").json()["success"] is True
    poll = own.poll(job)
    assert (poll["success"], poll["status"]) == (True, "failed")
    assert poll["error"] == "the music was cancelled"
    assert own.get(f"/api/jobs/{job}").json()["status"] == "cancelled"
    assert own.finished(begin(own))["status"] == "completed"
    assert own.workers() == workers  # it heeded, and needed not be ended
    again = own.delete(f"/api/jobs/{job}")
    assert again.status_code == 409
    assert again.json()["success"] is False
    assert not (own.state / "jobs" / job).exists()


def test_a_worker_that_does_not_heed_is_ended(own):
    job = begin(own, 300)
    playing(own, job)
    (worker,) = own.workers()
    os.kill(worker, signal.SIGSTOP)
    assert own.delete(f"/api/jobs/{job}").json()["success"] is True
    assert own.finished(begin(own))["status"] == "completed"
    assert worker not in own.workers()


# --- Workers that die -----------------------------------------------------------------------------


def test_a_worker_that_is_killed_fails_its_job_and_another_takes_the_next(own):
    job = begin(own, 300)
    playing(own, job)
    waiting = begin(own)
    (worker,) = own.workers()
    os.kill(worker, signal.SIGKILL)
    poll = own.finished(job)
    assert (poll["success"], poll["status"]) == (True, "failed")
    assert "ran out of memory" in poll["error"]
    assert own.finished(waiting)["status"] == "completed"
    assert own.workers() != [worker]
    assert "segue_worker_deaths_total 0.0" not in own.get("/metrics").text


def test_a_worker_that_is_killed_while_it_waits_is_not_missed(own):
    own.finished(begin(own))
    for worker in own.workers():
        os.kill(worker, signal.SIGKILL)
    assert own.finished(begin(own))["status"] == "completed"


# --- Restarts -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kill_loses_nothing_and_doubles_nothing(fresh):
    finished = begin(fresh, seed=1)
    fresh.finished(finished)
    result = fresh.poll(finished)["audio_data"]
    (worker,) = fresh.workers()
    interrupted = begin(fresh, 10, seed=2)
    playing(fresh, interrupted)
    os.kill(worker, signal.SIGSTOP)  # in the middle of it, however long the rest takes
    queued = begin(fresh, seed=1)
    cancelled = begin(fresh)
    fresh.delete(f"/api/jobs/{cancelled}")
    fresh.kill()
    os.kill(worker, signal.SIGCONT)
    fresh.until(lambda: _gone(worker), "the worker stays")
    fresh.start()
    assert fresh.poll(finished)["audio_data"] == result
    samples, _, _ = decoded(fresh.finished(interrupted)["audio_data"])
    assert len(samples) == 10 * 44_100
    assert fresh.poll(interrupted)["generation_seed"] == "2"
    assert fresh.finished(queued)["audio_data"] == result
    assert fresh.get(f"/api/jobs/{cancelled}").json()["status"] == "cancelled"
    done = [line["job"] for line in events(fresh, "job done")]
    assert sorted(done) == sorted([finished, interrupted, queued])
    folders = {path.name: sorted(p.name for p in path.iterdir()) for path in _jobs(fresh)}
    assert folders == {finished: ["1"], interrupted: ["2"], queued: ["1"]}


def test_a_job_that_ends_the_service_again_and_again_is_given_up(fresh):
    job = begin(fresh, 300)
    other = begin(fresh)
    playing(fresh, job)
    fresh.kill()
    with sqlite3.connect(fresh.state / "segue.db") as db:
        # As if that had happened before.
        db.execute("UPDATE jobs SET deaths = ? WHERE id = ?", (MOST_CRASHES - 1, job))
    fresh.start()
    poll = fresh.finished(job)
    assert (poll["success"], poll["status"]) == (True, "failed")
    assert "3 times while it played this" in poll["error"]
    assert fresh.finished(other)["status"] == "completed"


@pytest.mark.slow
def test_a_stop_waits_for_no_job_and_the_running_one_resumes_with_the_next_start(fresh):
    fresh.finished(begin(fresh))
    (worker,) = fresh.workers()
    job = begin(fresh, 12)
    playing(fresh, job)
    os.kill(worker, signal.SIGSTOP)  # whoever waits for the job waits for ever
    with fresh.stream(f"/api/jobs/{job}/stream") as stream:
        next(stream.iter_lines())
        fresh.process.send_signal(signal.SIGTERM)
        assert fresh.process.wait(SECONDS) == 0
    assert _gone(worker)
    with sqlite3.connect(fresh.state / "segue.db") as db:
        assert db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchall() == [("queued",)]
    # A stream that had to be cut off after a while would be one.
    assert not [line for line in fresh.lines() if line["level"] == "error"]
    fresh.stop()
    fresh.start()
    assert fresh.finished(job)["status"] == "completed"


@pytest.mark.slow
def test_a_stop_of_all_processes_at_once_loses_no_job(fresh):
    """As systemd stops a service, and a computer that shuts down."""
    job = begin(fresh, 6)
    playing(fresh, job)
    for pid in fresh.workers():
        os.kill(pid, signal.SIGTERM)
    fresh.until(lambda: events(fresh, "job waits"), "it is not queued again")
    assert fresh.stop() == 0
    fresh.start()
    assert fresh.finished(job)["status"] == "completed"
    assert len(events(fresh, "job done")) == 1
    with sqlite3.connect(fresh.state / "segue.db") as db:
        assert db.execute("SELECT sum(deaths) FROM jobs").fetchall() == [(0,)]


@pytest.mark.slow
def test_restarts_one_after_the_other_lose_no_job_and_count_no_crash(fresh):
    jobs = [begin(fresh, 6) for _ in range(3)]

    def plays_or_is_done():
        health = fresh.get("/health").json()
        return health["playing"] or not health["waiting"]

    for _ in range(MOST_CRASHES + 1):
        fresh.until(plays_or_is_done, "nothing plays")
        assert fresh.stop() == 0
        fresh.start()
    assert [fresh.finished(job)["status"] for job in jobs] == ["completed"] * 3
    assert sorted(line["job"] for line in events(fresh, "job done")) == sorted(jobs)
    assert len(events(fresh, "job begins")) > len(jobs)
    with sqlite3.connect(fresh.state / "segue.db") as db:
        assert db.execute("SELECT sum(deaths) FROM jobs").fetchall() == [(0,)]


def _gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _jobs(server):
    return list((server.state / "jobs").iterdir())


def test_two_services_do_not_share_a_folder(own):
    with pytest.raises(SegueError, match="another segue serve uses it"):
        Store(own.state)


def test_the_disk_is_bounded_and_the_oldest_results_go_first(narrow):
    jobs = [begin(narrow, 6) for _ in range(2)]
    for _ in range(2):
        narrow.finished(jobs[-1])
        jobs.append(begin(narrow, 6))
    for job in jobs[1:]:
        narrow.finished(job)
    begin(narrow, 6)
    states = [narrow.poll(job)["status"] for job in jobs]
    assert states[0] == "unknown"
    assert states[-1] == "completed"
    kept = sum(p.stat().st_size for p in narrow.state.rglob("*.wav"))
    assert kept < 7_500_000
    large = encoded(song(30))
    answer = narrow.post("/api/jobs", audio_data=large)
    assert answer.status_code == 429
    assert "no room" in answer.json()["error"]


def test_what_is_old_is_swept(narrow):
    job = begin(narrow)
    narrow.finished(job)
    narrow.stop()
    with sqlite3.connect(narrow.state / "segue.db") as db:
        # As if it had been an hour ago.
        db.execute("UPDATE jobs SET finished = finished - 3600.5")
    narrow.start()
    narrow.until(lambda: narrow.poll(job)["status"] == "unknown", "it is kept")
    assert list((narrow.state / "inputs").iterdir()) == []
    assert _jobs(narrow) == []
    retry = narrow.post("/api/juce/retry_music", session_id=job)
    assert retry.status_code == 404


def test_logs_hold_nothing_of_a_job_s_content(own):
    job = begin(own, description="a very private description")
    own.finished(job)
    own.post("/api/jobs", audio_data=AUDIO, description={"private": "description"})
    said = own.log.read_text()
    assert job in said
    assert "private" not in said
    assert AUDIO[100:140] not in said
