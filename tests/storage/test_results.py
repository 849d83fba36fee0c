"""`segue serve --results`: fronts with folders of their own, and a store that goes and comes."""

from __future__ import annotations

import hashlib

import pytest

from segue.cli import main
from tests.service.server import Server, begin, encoded, playing, song

SHORT_LEASE = ("--lease", "5")


@pytest.fixture
def serve(tmp_path, toy):
    """Starts a service with a folder of its own."""
    made = []

    def make(results, *options, environment=None):
        models = ("--models", str(toy), "--default-model", f"local/{toy.name}")
        server = Server(
            tmp_path / f"state-{len(made)}",
            *(*models, "--engine", "openvino", "--batch-rows", "1"),
            *("--results", results, *options),
            environment=environment,
        )
        server.start()
        made.append(server)
        return server

    yield make
    for server in made:
        if server.process.poll() is None:
            assert server.stop() == 0


def digest(server, job):
    answer = server.get(f"/api/jobs/{job}/takes/1.wav")
    assert answer.status_code == 200, answer.text
    return hashlib.sha256(answer.content).hexdigest()


def test_two_fronts_without_a_common_folder_are_one_service(serve, bucket, url):
    options = ("--database", url, *SHORT_LEASE)
    a, b = (serve(bucket.address("music"), *options) for _ in range(2))
    jobs = [begin((a, b)[n % 2], 2, seed=n % 3) for n in range(12)]
    for job in jobs:
        assert b.finished(job, 120)["status"] == "completed"
    made = {(n % 3, digest(server, job)) for n, job in enumerate(jobs) for server in (a, b)}
    assert len(made) == 3
    ran = [{line["job"] for line in s.lines() if line["message"] == "job done"} for s in (a, b)]
    assert all(ran)
    assert set.union(*ran) == set(jobs)
    (again,) = [b.post(f"/api/jobs/{next(iter(ran[0]))}/retry").json()["job_id"]]
    assert a.finished(again, 120)["status"] == "completed"
    for job in [*jobs, again]:
        assert a.delete(f"/api/jobs/{job}?remove=true").status_code == 200
    assert b.get(f"/api/jobs/{jobs[0]}").status_code == 404


def test_what_a_front_was_sent_that_is_killed_another_plays(serve, bucket, url):
    options = ("--database", url, *SHORT_LEASE)
    a, b = (serve(bucket.address("music"), *options) for _ in range(2))
    jobs = [begin(a, 6, seed=n) for n in range(4)]
    a.until(lambda: a.get("/health").json()["playing"], "it does not play")
    a.kill()
    for job in jobs:
        assert b.finished(job, 120)["status"] == "completed"
        assert digest(b, job)


def test_while_the_store_is_gone_jobs_are_refused_and_none_is_lost(serve, bucket, endpoint, store):
    server = serve(bucket.address("music"))
    job = begin(server, 6, seed=1)
    playing(server, job)
    store.stop()
    asked = {"audio_data": encoded(song(2.0)), "prompt_seconds": 1, "output_seconds": 2}
    answer = server.post("/api/jobs", **asked)
    assert answer.status_code == 503
    assert "cannot reach the store of its music" in answer.json()["error"]
    server.until(lambda: _waits(server), "it does not notice")
    assert server.get(f"/api/jobs/{job}").json()["status"] != "failed"
    assert server.get("/health").json()["status"] == "unhealthy"
    store.start()
    assert server.finished(job, 120)["status"] == "completed"
    assert digest(server, job)
    assert f"music/jobs/{job}/1/take-1.wav" in bucket.objects()
    assert server.get("/health").json()["status"] == "live"


def _waits(server):
    said = "the store of results cannot be reached"
    return any(line["message"] == said for line in server.lines())


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ("s3://no-such-bucket/x", "there is no such bucket or folder"),
        ("/nfs/folder", "--results must be an address"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(endpoint, tmp_path, capsys, results, line):
    words = ["--state-dir", str(tmp_path / "state"), "--port", "0", "--results", results]
    assert main(["serve", *words, "--engine", "openvino"]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
