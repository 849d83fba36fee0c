"""A request on its way to the worker: one spec, one look at the disk, one copy of its audio."""

import asyncio
import json
import sqlite3
import time

import pytest

from segue.service.settings import Settings
from tests.service.in_process import SECONDS, InProcess
from tests.service.server import encoded, song

OUTCOME = {
    "engine": "mlx",
    "device": "cpu",
    "quantization": "none",
    "takes": [],
    "new_seconds": 1.0,
    "load_s": None,
    "play_s": 1.0,
}


@pytest.fixture
def running(tmp_path, toy):
    with InProcess(Settings(state=tmp_path / "state", models=(toy,))) as running:
        yield running


def post(running, path, **fields):
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    status, _, content = running.send(head.encode(), body)
    assert status in (200, 202), content
    return json.loads(content)


def row(running, job):
    with sqlite3.connect(running.service.store.folder / "segue.db") as db:
        return db.execute("SELECT state, asked FROM jobs WHERE id = ?", (job,)).fetchone()


def ended(running, job):
    end = time.monotonic() + SECONDS
    while (found := row(running, job))[0] in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_a_request_is_looked_up_reserved_and_copied_once(running, toy, monkeypatch):
    service, looked_up, reserved, copies, tasks = running.service, [], [], [], []
    model = f"local/{toy.name}"

    def count(owner, name, into):
        original = getattr(owner, name)

        def counted(*args):
            into.append(args)
            return original(*args)

        monkeypatch.setattr(owner, name, counted)

    count(service.models, "find", looked_up)
    count(service.jobs.admission, "reserve", reserved)
    decode = service.decode

    async def watched(upload):
        copies.extend(await asyncio.to_thread(lambda: list(service.store.uploads.iterdir())))
        return await decode(upload)

    async def run(task, on_message):
        tasks.append(task)
        return OUTCOME

    monkeypatch.setattr(service, "decode", watched)
    monkeypatch.setattr(service.pool.places[0].worker, "run", run)
    fields = {"audio_data": encoded(song(8.0)), "model_name": model, "seed": "7", "top_k": "40"}
    job = post(running, "/api/juce/process_audio", **fields)["session_id"]
    state, stored = ended(running, job)
    assert state == "completed"
    assert [args for args in looked_up if args == (model,)] == [(model,)]
    assert len(reserved) == 1
    (upload,) = copies  # the audio as it was sent: its body never was a file
    assert upload.suffix == ".audio"
    assert list(service.store.uploads.iterdir()) == []
    assert len(list(service.store.inputs.iterdir())) == 1
    (task,) = tasks
    assert task["spec"] == json.loads(stored)
    assert (task["spec"]["request"]["seed"], task["spec"]["request"]["top_k"]) == (7, 40)
    assert task["source"] == str(toy)


def test_a_job_waits_until_it_is_known_what_is_missing_of_its_model(running, toy, monkeypatch):
    """Another job that ends meanwhile does not let it begin without its model."""
    service, begun = running.service, []

    async def run(task, on_message):
        begun.append(task["spec"]["model"])
        return OUTCOME

    found = []

    def missing(*args):
        # The queue is awake: a job that is complete comes and ends while this one is looked at.
        audio = encoded(song(1.0))
        fields = {"prompt_seconds": 0.5, "output_seconds": 1, "model_name": f"local/{toy.name}"}
        other = post(running, "/api/jobs", audio_data=audio, **fields)["job_id"]
        ended(running, other)
        found.append(list(begun))
        return []

    monkeypatch.setattr(service.pool.places[0].worker, "run", run)
    monkeypatch.setattr("segue.service.jobs.queue.missing_repositories", missing)
    absent = "facebook/musicgen-small"
    fields = {"prompt_seconds": 0.5, "output_seconds": 1, "model_name": absent}
    job = post(running, "/api/jobs", audio_data=encoded(song(1.0)), **fields)["job_id"]
    ended(running, job)
    assert found == [[f"local/{toy.name}"]]
    assert begun == [f"local/{toy.name}", absent]
