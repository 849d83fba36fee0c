"""`segue serve --cluster`: workers are actors on the machines of a real Ray cluster."""

import io
import os
import signal
import sqlite3
import threading
from typing import Any

import numpy as np
import pytest

from segue.errors import RequestError
from tests.service.http.test_native import events_of, heard
from tests.service.server import SECONDS, Server, begin, decoded, playing, song

pytest.importorskip("ray", reason='no Ray here: pip install ".[cluster]"')

from segue.cluster import WithoutRay, connect
from segue.service.workers.actor_end import SECONDS_OF_DOUBT

from .nodes import nodes

SONG = song(2.0)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with nodes(count=2, cpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def served(cluster, tmp_path_factory, toy_options):
    folder = tmp_path_factory.mktemp("cluster")
    options = (*toy_options, "--cluster", cluster.address, "--workers", "1-3", "--batch-rows", "2")
    environment = {"HF_HUB_OFFLINE": "1", "SEGUE_STATE": str(folder / "of-nodes")}
    with Server(folder / "state", *options, environment=environment) as server:
        server.until(lambda: started(server), "no worker starts")
        yield server


def started(server):
    """The node of each worker, by its number, as it was started last."""
    lines = [li for li in server.lines() if li["message"] == "worker started" and "node" in li]
    return {li["worker"]: li["node"] for li in lines}


def worker_of(server, job):
    begun = [li for li in server.lines() if li["message"] == "job begins" and li["job"] == job]
    return begun[-1]["worker"]


def test_what_an_actor_plays_is_what_a_process_plays(served, tmp_path, toy_options):
    fields = {"seed": 3, "variations": 2, "description": "drums"}
    far = served.get(f"/api/jobs/{ended(served, begin(served, 4, **fields))}").json()
    takes = [served.get(f"/api/jobs/{far['job_id']}/takes/{n}.wav").content for n in (1, 2)]
    with Server(tmp_path / "state", *toy_options, environment={"HF_HUB_OFFLINE": "1"}) as here:
        near = ended(here, begin(here, 4, **fields))
        assert kept(served, far["job_id"]) == kept(here, near)
        assert takes == [here.get(f"/api/jobs/{near}/takes/{n}.wav").content for n in (1, 2)]
    heard, _, _ = decoded(served.poll(far["job_id"])["audio_data"])
    assert (heard[:44_100] == SONG[:44_100]).all()


def kept(server, job):
    """The sizes of all that a job has left: files of floats say when they were written, too."""
    return {path.name: path.stat().st_size for path in (server.state / "jobs" / job).glob("*/*")}


def ended(server, job):
    assert server.finished(job)["status"] == "completed"
    return job


def test_it_streams_while_it_is_generated(served):
    job = begin(served, 60, seed=1)
    events = events_of(served, job)
    first = next(event for event in events if event[0] == "audio")
    assert served.poll(job)["status"] == "processing"  # long before the end
    samples = heard([first, *events])
    exact = decoded(served.poll(job)["audio_data"])[0][44_100:]
    assert samples.shape == exact.shape
    error = (samples.astype(float) - exact)[4410:]  # behind the splice
    assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((exact.astype(float) ** 2).mean())


def test_a_job_is_cancelled_and_its_worker_stays(served):
    job = begin(served, 300)
    playing(served, job)
    before = started(served)
    assert served.delete(f"/api/jobs/{job}").json()["success"] is True
    assert served.get(f"/api/jobs/{job}").json()["status"] == "cancelled"
    ended(served, begin(served))
    assert started(served) == before


def test_workers_are_started_as_far_as_there_is_work_for_them(served):
    jobs = [begin(served, 60, variations=2, seed=n) for n in range(4)]
    playing(served, *jobs[:3])
    assert len({worker_of(served, job) for job in jobs[:3]}) == 3
    assert set(started(served)) == {0, 1, 2}
    assert served.poll(jobs[3])["queue_status"]["position"] == 1
    for job in jobs:
        served.delete(f"/api/jobs/{job}")


@pytest.mark.parametrize(
    "how", ["lost power", "killed bit by bit", "ray stop", "shut down", "workers shut down"]
)
def test_a_job_whose_machine_vanishes_runs_again_and_is_counted_once(served, cluster, how):
    jobs = [begin(served, 20, seed=n, variations=2) for n in range(2)]
    playing(served, *jobs)
    node = started(served)[worker_of(served, jobs[0])]
    assert cluster.workers(node)
    if how == "lost power":
        cluster.kill(node)
    elif how == "killed bit by bit":
        for pid in cluster.workers(node):
            os.kill(pid, signal.SIGKILL)
        cluster.kill(node)
    elif how == "ray stop":
        cluster.stop(node)
    else:
        cluster.stop(node, workers_first=0.0 if how == "shut down" else SECONDS_OF_DOUBT + 1)
    cluster.add()
    assert [served.finished(job, 2 * SECONDS)["status"] for job in jobs] == ["completed"] * 2
    done = [li["job"] for li in served.lines() if li["message"] == "job done"]
    assert [done.count(job) for job in jobs] == [1, 1]
    with sqlite3.connect(f"file:{served.state}/segue.db?mode=ro", uri=True) as db:
        (attempts,) = db.execute("SELECT attempts FROM jobs WHERE id = ?", jobs[:1]).fetchone()
    assert attempts >= 2
    assert [p.name for p in (served.state / "jobs" / jobs[0]).iterdir()] == [str(attempts)]


def test_an_actor_that_dies_alone_fails_its_job_as_a_process_does(served):
    """Its machine is there: so it may be the job that ended it."""
    job = begin(served, 300, variations=2)
    playing(served, job)
    os.kill(actor_pid(served, worker_of(served, job)), signal.SIGKILL)
    poll = served.finished(job)
    assert (poll["status"], "ended by itself" in poll["error"]) == ("failed", True)
    ended(served, begin(served))


def actor_pid(server, worker):
    lines = [li for li in server.lines() if li["message"] == "worker started" and "node" in li]
    return [li["pid"] for li in lines if li["worker"] == worker][-1]


def test_what_ray_prints_by_itself_is_not_among_what_segue_prints():
    printed = io.StringIO()
    stream: Any = WithoutRay(printed)
    for name in ("MainThread", "ray_listen_error_messages"):
        thread = threading.Thread(
            target=lambda: print("line of", threading.current_thread().name, file=stream), name=name
        )
        thread.start()
        thread.join()
    assert printed.getvalue() == "line of MainThread\n"
    assert stream.getvalue() == printed.getvalue()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:port"])
def test_no_cluster_is_one_line(address):
    with pytest.raises(RequestError, match=f"--cluster {address}: .*HOST:PORT"):
        connect(address)
