"""Jobs of one model that share its steps: each as if it were alone, whatever becomes of others."""

import os
import signal
from typing import Any

import pytest

from segue.service.jobs.estimates import Estimates
from segue.service.jobs.models import ListedModel
from segue.service.jobs.progress import JobProgress
from segue.service.jobs.rows import QUEUED, Job
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.jobs.waiting import WaitingJob, WaitingJobs
from tests.service.server import Server, begin, playing


@pytest.fixture(scope="module")
def shared(tmp_path_factory, toy_options):
    options = (*toy_options, "--batch-rows", "4")
    with Server(tmp_path_factory.mktemp("shared") / "state", *options) as server:
        yield server


def playing_together(server, *jobs):
    """Wait until jobs play, all at the same time."""
    playing(server, *jobs)
    assert all(server.poll(job)["status"] == "processing" for job in jobs)


def metric(server, name):
    lines = server.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_jobs_that_ran_together_are_what_they_are_alone(shared):
    long = begin(shared, 300)
    playing_together(shared, long)
    asked: list[dict[str, Any]] = [
        {"seconds": 6, "seed": 1},
        {"seconds": 4, "seed": 2, "description": "drums piano"},
        {"seconds": 3, "seed": 3, "top_k": 5, "temperature": 0.5},
    ]
    jobs = [begin(shared, **fields) for fields in asked]
    together = [shared.finished(job)["audio_data"] for job in jobs]
    assert shared.poll(long)["status"] == "processing"
    assert shared.get("/health").json()["playing"] is True
    assert metric(shared, "segue_batch_rows_used") >= 1
    shared.delete(f"/api/jobs/{long}")
    alone = [shared.finished(begin(shared, **fields))["audio_data"] for fields in asked]
    assert together == alone
    count = metric(shared, "segue_batch_rows_count")
    assert metric(shared, "segue_batch_rows_sum") > count + 1  # some steps had more than one row


def test_one_that_is_cancelled_leaves_the_others(shared):
    jobs = [begin(shared, 300), begin(shared, 300, seed=2), begin(shared, 20, seed=3)]
    playing_together(shared, *jobs[:2])
    workers = shared.workers()
    assert shared.delete(f"/api/jobs/{jobs[0]}").json()["success"] is True
    assert shared.finished(jobs[2])["status"] == "completed"
    assert shared.poll(jobs[1])["status"] == "processing"
    assert shared.workers() == workers
    shared.delete(f"/api/jobs/{jobs[1]}")


def test_nobody_overtakes_one_that_waits_for_room(shared):
    long = begin(shared, 300)
    playing_together(shared, long)
    large = begin(shared, variations=3, description="drums")
    small = begin(shared)
    assert [shared.poll(job)["queue_status"]["position"] for job in (large, small)] == [1, 2]
    shared.delete(f"/api/jobs/{long}")
    assert shared.finished(large)["status"] == "completed"
    assert shared.finished(small)["status"] == "completed"
    begun = [line["job"] for line in shared.lines() if line["message"] == "job begins"]
    assert begun[-3:] == [long, large, small]


def test_a_worker_that_dies_with_several_jobs_is_started_for_each_alone(shared):
    before = metric(shared, "segue_worker_deaths_total")
    jobs = [begin(shared, 30, seed=n) for n in (1, 2)]
    playing_together(shared, *jobs)
    later = begin(shared)
    (worker,) = shared.workers()
    os.kill(worker, signal.SIGKILL)
    assert [shared.finished(job)["status"] for job in (*jobs, later)] == ["completed"] * 3
    assert metric(shared, "segue_worker_deaths_total") == before + 1
    done = [line["job"] for line in shared.lines() if line["message"] == "job done"]
    assert done[-3:] == [*jobs, later]


def test_a_worker_that_is_ended_for_one_job_runs_the_others_again(shared):
    jobs = [begin(shared, 300), begin(shared, 30, seed=2)]
    playing_together(shared, *jobs)
    (worker,) = shared.workers()
    os.kill(worker, signal.SIGSTOP)  # it heeds nothing
    assert shared.delete(f"/api/jobs/{jobs[0]}").json()["success"] is True
    assert shared.finished(jobs[1])["status"] == "completed"
    assert shared.get(f"/api/jobs/{jobs[0]}").json()["status"] == "cancelled"
    assert worker not in shared.workers()


# --- Who waits how long ---------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path):
    """Makes a queue of so many rows, with jobs in it."""
    store = Store(tmp_path / "state")

    def make(batch_rows, *waiting):
        jobs = WaitingJobs(Estimates(store), batch_rows)
        for each in waiting:
            jobs.add(each)
        return jobs

    yield make
    store.close()


def waiting(name, rows=1):
    spec = JobSpec("native", "a", variations=rows, output_seconds=16.0)
    job = Job(0, name, QUEUED, "input", spec, 0, 0, 0.0, None, None, None)
    model = ListedModel("a", "a", "small", "a", None, ())
    return WaitingJob(job, model, 0, JobProgress(), ready=True)


def test_a_description_doubles_a_job_s_rows():
    assert JobSpec("native", "a", text="drums", variations=3).rows == 6
    assert JobSpec("native", "a", text="  ", variations=3).rows == 3


@pytest.mark.parametrize(
    ("rows", "begins"), [(1, [0, 10, 20, 30]), (2, [0, 0, 10, 20]), (4, [0, 0, 0, 10])]
)
def test_who_waits_is_told_when_there_is_room(queue, rows, begins):
    jobs = [waiting("a"), waiting("b"), waiting("c", rows=2), waiting("d")]
    line = queue(rows, *jobs)
    views = [line.view(each.job).seconds for each in jobs]
    assert views == pytest.approx(begins)
    assert line.load().seconds == pytest.approx(begins[-1] + 10)
