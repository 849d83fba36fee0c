"""Two services of a process each on one database and one folder: one queue, each job once."""

import collections
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("psycopg_pool", reason="no psycopg here: make test-postgres")

from tests.service.server import Server, begin, encoded, playing, song

from .server import database

LEASE = 5.0

SLEPT = Path(__file__).parent / "slept"
"""First on the path of Python's modules, it makes each step of a job take 10 ms more."""


@pytest.fixture
def front(tmp_path, toy_options, url):
    """Starts another front of the test's database; with `slept`, steps take longer."""
    made = []

    def make(*options, slept=False):
        path = filter(None, (str(SLEPT), os.environ.get("PYTHONPATH")))
        server = Server(
            tmp_path / "state",
            *(*toy_options, "--batch-rows", "1", "--database", url, "--lease", str(LEASE)),
            *options,
            environment={
                "HF_HUB_OFFLINE": "1",
                **({"PYTHONPATH": os.pathsep.join(path)} if slept else {}),
            },
        )
        server.log = tmp_path / f"front-{len(made)}.log"
        server.start()
        made.append(server)
        return server

    yield make
    for server in made:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
            assert server.stop() == 0


def rows(url, query):
    with database(url) as opened:
        return [dict(row) for row in opened.rows(query)]


def said(server, message):
    return [line for line in server.lines() if line["message"] == message]


def runner(servers, job):
    """The front that a job runs on."""
    found = [
        server
        for server in servers
        if job in {line["job"] for line in said(server, "job begins")}
        and job not in {line["job"] for line in said(server, "job done")}
    ]
    return found[0] if found else None


def running(servers, job):
    """The front that runs a job, and the other, once one does."""
    where = servers[0].until(lambda: runner(servers, job), "no front runs it")
    (other,) = [server for server in servers if server is not where]
    return where, other


def state(server, job):
    return server.get(f"/api/jobs/{job}").json()


def digest(server, job):
    answer = server.get(f"/api/jobs/{job}/takes/1.wav")
    assert answer.status_code == 200, answer.text
    return hashlib.sha256(answer.content).hexdigest()


def counted(servers):
    """How often each job was completed, as the logs say."""
    return collections.Counter(
        line["job"] for server in servers for line in said(server, "job done")
    )


def test_a_front_killed_under_forty_jobs_loses_and_doubles_none(front, url):
    servers = a, b = front(), front()
    jobs = [begin(servers[n % 2], 2, seed=n % 4) for n in range(40)]
    assert len(set(jobs)) == 40
    b.until(lambda: sum(counted(servers).values()) >= 10, "nothing is done")
    assert all(said(server, "job done") for server in servers), "one front did everything"
    a.until(lambda: a.get("/health").json()["playing"], "it does not play")
    a.kill()
    for job in jobs:
        assert b.finished(job, 120)["status"] == "completed"
    kept = rows(url, "SELECT id, state, attempts, deaths FROM jobs ORDER BY number")
    assert [row["id"] for row in kept] == jobs
    assert {row["state"] for row in kept} == {"completed"}
    assert sum(row["deaths"] for row in kept) <= 1
    for row in kept:
        folders = [path.name for path in (b.state / "jobs" / row["id"]).iterdir()]
        assert folders == [str(row["attempts"])]
    assert max(counted(servers).values()) == 1
    assert len(counted(servers)) >= 39  # the one that ended may have had no time to say so
    assert len({(n % 4, digest(b, job)) for n, job in enumerate(jobs)}) == 4


def test_a_front_that_stalls_beyond_its_lease_doubles_nothing(front, url):
    servers = front(slept=True), front(slept=True)
    job = begin(servers[0], 12, seed=1)
    stalled, other = running(servers, job)
    playing(other, job)
    stalled.process.send_signal(signal.SIGSTOP)
    other.until(lambda: job in {line["job"] for line in said(other, "job begins")}, "it is lost")
    stalled.process.send_signal(signal.SIGCONT)
    assert other.finished(job, 120)["status"] == "completed"
    dropped = stalled.until(lambda: said(stalled, "attempt dropped"), "it does not drop it")
    assert [(line["job"], line["attempt"]) for line in dropped] == [(job, 1)]
    assert [line["job"] for line in said(other, "job done")] == [job]
    assert not said(stalled, "job done")
    assert rows(url, "SELECT state, attempts, deaths FROM jobs") == [
        {"state": "completed", "attempts": 2, "deaths": 1}
    ]
    assert [path.name for path in (other.state / "jobs" / job).iterdir()] == ["2"]
    assert digest(stalled, job) == digest(other, job)
    # It has a lease again, and works.
    again = begin(stalled, 12, seed=1)
    assert stalled.finished(again)["status"] == "completed"
    assert digest(stalled, again) == digest(stalled, job)


def test_any_front_shows_and_cancels_what_another_runs(front):
    servers = front(slept=True), front(slept=True)
    job = begin(servers[0], 300)
    where, other = running(servers, job)
    playing(other, job)
    second = begin(where, 300)
    running([other, where], second)
    waits = [begin(server, 300, seed=n) for n, server in enumerate((other, where))]
    for server in servers:
        server.until(
            lambda server=server: state(server, waits[1])["queue_status"]["position"] == 2,
            "it is not the second of the queue",
        )
        server.until(lambda s=server: s.get("/health").json()["waiting"] == 2, "not 2 wait")
    for name in (job, waits[0]):  # one that runs there, and one that waits
        assert other.delete(f"/api/jobs/{name}").status_code == 200
        assert other.delete(f"/api/jobs/{name}").status_code == 409
        assert state(where, name)["status"] == "cancelled"
    where.until(lambda: said(where, "attempt dropped"), "its worker plays on")
    running([where, other], waits[1])
    assert [line["job"] for line in said(where, "attempt dropped")] == [job]
    for name in (second, waits[1]):
        assert where.delete(f"/api/jobs/{name}?remove=true").status_code == 200
    assert other.get(f"/api/jobs/{job}/takes/1.wav").status_code == 409


def test_what_another_front_plays_is_streamed_from_the_folder(front):
    servers = front(slept=True), front(slept=True)
    job = begin(servers[0], 60)
    where, other = running(servers, job)
    playing(other, job)
    heard = 0
    with other.stream(f"/api/jobs/{job}/stream") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and "pcm" in (data := json.loads(line[6:])):
                assert data["start"] == heard
                heard += len(data["pcm"])
                break
    assert heard
    assert state(where, job)["status"] == "processing"
    assert where.delete(f"/api/jobs/{job}").status_code == 200


def test_a_stopped_front_leaves_what_it_had_to_the_other(front, url):
    servers = a, b = front(), front()
    jobs = [begin(a, 6, seed=n) for n in range(4)]
    a.until(lambda: a.get("/health").json()["playing"], "it does not play")
    assert a.stop() == 0
    for job in jobs:
        assert b.finished(job)["status"] == "completed"
    assert counted(servers) == dict.fromkeys(jobs, 1)
    assert rows(url, "SELECT SUM(deaths) AS n FROM jobs") == [{"n": 0}]
    assert len(rows(url, "SELECT id FROM fronts")) == 1


def test_the_bound_of_the_queue_is_of_all_fronts(front):
    servers = a, b = front("--max-queue", "2"), front("--max-queue", "2")
    running_ = [begin(a, 300), begin(a, 300)]
    for job in running_:
        running(servers, job)
    waits = [begin(a, 300), begin(b, 300)]
    for server in servers:
        answer = server.post("/api/jobs", audio_data=encoded(song(2.0)))
        assert answer.status_code == 429
        assert "2 requests are waiting" in answer.json()["error"]
    for job in (*waits, *running_):
        assert b.delete(f"/api/jobs/{job}").status_code == 200


def test_a_database_that_is_started_again_fails_no_job(front, url, running_postgres):
    server = front()
    jobs = [begin(server, 6, seed=n) for n in range(3)]
    playing(server, jobs[0])
    running_postgres.stop()
    try:
        refused = server.get(f"/api/jobs/{jobs[0]}")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert "\n" not in refused.json()["error"]
        time.sleep(1)
    finally:
        running_postgres.start()
    server.until(
        lambda: server.get(f"/api/jobs/{jobs[0]}").status_code == 200, "it does not come back"
    )
    for job in jobs:
        assert server.finished(job)["status"] == "completed"
    assert counted([server]) == dict.fromkeys(jobs, 1)
