"""A service of several workers: where jobs run, and what becomes of them when one is killed."""

import os
import signal

import pytest

from segue.demo.toy import write_checkpoint
from tests.service.server import Server, begin, playing


@pytest.fixture(scope="module")
def pool(tmp_path_factory, toy_options):
    """Two workers, and two models that they offer; a batch has two rows."""
    folder = tmp_path_factory.mktemp("pool")
    other = write_checkpoint(folder / "other")
    options = (*toy_options, "--models", str(other), "--workers", "2", "--batch-rows", "2")
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        server.until(lambda: len(server.workers()) == 2, "they are not warmed")
        yield server


def workers_of(server, *jobs):
    """The number of the worker that each job began on last."""
    begun = {li["job"]: li["worker"] for li in server.lines() if li["message"] == "job begins"}
    return [begun[job] for job in jobs]


def metrics(server):
    lines = [li for li in server.get("/metrics").text.splitlines() if not li.startswith("#")]
    return {name: float(value) for name, value in (li.rsplit(" ", 1) for li in lines)}


def of_worker(found, name, number):
    return found[f'segue_pool_{name}{{worker="{number}"}}']


def idle(server):
    server.until(lambda: not server.get("/health").json()["playing"], "it does not end")


def test_a_batch_is_filled_and_then_another_worker_begins_one(pool):
    jobs = [begin(pool, 300, seed=n) for n in range(4)]
    playing(pool, *jobs)
    waits = begin(pool)
    first, second, third, fourth = workers_of(pool, *jobs)
    assert (first, third) == (second, fourth)
    assert {first, third} == {0, 1}
    assert pool.poll(waits)["queue_status"]["position"] == 1
    found = metrics(pool)
    assert [of_worker(found, "jobs_playing", n) for n in (0, 1)] == [2, 2]
    assert [of_worker(found, "rows_used", n) for n in (0, 1)] == [2, 2]
    assert [of_worker(found, "up", n) for n in (0, 1)] == [1, 1]
    assert min(of_worker(found, "loaded_bytes", n) for n in (0, 1)) > 0
    for job in jobs:
        assert pool.delete(f"/api/jobs/{job}").json()["success"] is True
    assert pool.finished(waits)["status"] == "completed"


def test_jobs_of_two_models_run_beside_each_other_each_where_its_model_is(pool, toy):
    names = (f"local/{toy.name}", "local/other")

    def pair():
        jobs = [begin(pool, 20, model_name=name) for name in names]
        assert [pool.finished(job)["status"] for job in jobs] == ["completed"] * 2
        idle(pool)
        return workers_of(pool, *jobs)

    assert set(pair()) == {0, 1}
    long = begin(pool, 300)
    playing(pool, long)
    (busy,) = workers_of(pool, long)
    other = begin(pool, model_name="local/other")
    assert pool.finished(other)["status"] == "completed"
    assert workers_of(pool, other) != [busy]
    pool.delete(f"/api/jobs/{long}")
    idle(pool)


def test_one_seed_is_one_result_on_every_worker(pool):
    long = begin(pool, 300)
    playing(pool, long)
    together = [begin(pool, 3, seed=7, variations=2) for _ in range(2)]
    heard = [pool.finished(job)["audio_data"] for job in together]
    assert heard[0] == heard[1]
    pool.delete(f"/api/jobs/{long}")
    idle(pool)


def test_a_worker_that_is_killed_fails_its_own_job_alone(pool):
    """As with one worker: it may be what ended it.  Those of the other worker play on."""
    before = metrics(pool)
    long = [begin(pool, 60, variations=2, seed=n) for n in range(2)]
    playing(pool, *long)
    first, second = workers_of(pool, *long)
    assert first != second
    pids = worker_pids(pool)
    os.kill(pids[first], signal.SIGKILL)
    poll = pool.finished(long[0])
    assert (poll["status"], "ran out of memory" in poll["error"]) == ("failed", True)
    assert pool.finished(long[1])["status"] == "completed"
    after = metrics(pool)
    died = [of_worker(after, "deaths_total", first), after["segue_worker_deaths_total"]]
    assert died == [
        before.get(f'segue_pool_deaths_total{{worker="{first}"}}', 0) + 1,
        before["segue_worker_deaths_total"] + 1,
    ]
    assert pool.finished(begin(pool))["status"] == "completed"


def worker_pids(server):
    """The process of each worker, by its number."""
    return {
        li["worker"]: li["pid"]
        for li in server.lines()
        if li["message"] == "worker started" and "worker" in li
    }


@pytest.mark.slow
def test_workers_killed_under_load_lose_and_double_nothing(pool):
    """Jobs that shared a worker run again, each alone; every one ends once, as it must sound."""
    alone = [pool.finished(begin(pool, 4, seed=seed))["audio_data"] for seed in range(3)]
    jobs = [(begin(pool, 4, seed=n % 3), n % 3) for n in range(24)]
    killed = 0
    for n in range(6):
        pool.until(lambda: pool.get("/health").json()["playing"], "nothing plays")
        pid = worker_pids(pool)[n % 2]
        if pid in pool.workers():
            os.kill(pid, signal.SIGKILL)
            killed += 1
        pool.finished(jobs[3 * n][0])
    ended = [(pool.finished(job), seed) for job, seed in jobs]
    assert killed > 2
    failed = [poll["error"] for poll, _ in ended if poll["status"] != "completed"]
    assert len(failed) <= killed
    assert all("ran out of memory" in error for error in failed)
    for poll, seed in ended:
        assert poll["status"] != "completed" or poll["audio_data"] == alone[seed]
    done = [li["job"] for li in pool.lines() if li["message"] == "job done"]
    assert len(done) == len(set(done))
    idle(pool)
    found = metrics(pool)
    assert found["segue_jobs_waiting"] == found["segue_jobs_playing"] == 0


def test_workers_beyond_those_kept_begin_when_they_are_needed(tmp_path, toy_options):
    options = (*toy_options, "--workers", "1-3", "--batch-rows", "1")
    with Server(tmp_path / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        assert server.finished(begin(server))["status"] == "completed"
        assert len(server.workers()) == 1
        jobs = [begin(server, 300, seed=n) for n in range(2)]
        playing(server, *jobs)
        assert len(server.workers()) == 2
        for job in jobs:
            server.delete(f"/api/jobs/{job}")
