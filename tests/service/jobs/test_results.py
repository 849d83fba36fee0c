"""Inputs and results in shared storage: fronts with folders of their own have one another's."""

from __future__ import annotations

import os
import shutil
import time

import fsspec
import httpx2
import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem

from segue.errors import SegueError
from segue.service.jobs.play_on import new_piece
from segue.service.jobs.results import ResultsGoneError
from segue.service.jobs.rows import COMPLETED, RUNNING, Input, Parent
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.sqlite_database import SqliteDatabase
from segue.service.jobs.store import QueueFullError, Store
from segue.service.settings import Settings
from tests.service.in_process import InProcess, line_of

SPEC = JobSpec("native", "built-in")
ADDRESS = "memory://bucket/segue"
AGE = 2 * 24 * 3600.0


@pytest.fixture(autouse=True)
def empty():
    MemoryFileSystem.store.clear()


@pytest.fixture
def fronts(tmp_path):
    """Makes another front, with a folder of its own."""
    made = []

    def make(results=ADDRESS):
        database = SqliteDatabase(tmp_path / "shared.db")
        folder = tmp_path / f"front-{len(made)}"
        made.append(Store(folder, database=database, results=results))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def down(monkeypatch):
    """Has the store of results not answer until it is called again."""
    answering = True

    def guard(name):
        real = getattr(MemoryFileSystem, name)

        def call(self, *arguments, **options):
            if not answering:
                raise ConnectionError("no route to host")
            return real(self, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, name, call)

    for name in ("put_file", "info", "cat_ranges", "rm", "rm_file", "find"):
        guard(name)

    def switch():
        nonlocal answering
        answering = not answering

    return switch


def stored():
    names = fsspec.filesystem("memory").find("/")
    return sorted(name.removeprefix("/bucket/segue/") for name in names)


def write_wav(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((frames, 2), np.float32), 44_100, "FLOAT")


def add(store, **options):
    name, path = store.new_input()
    path.write_bytes(b"prompt" * 20)
    return store.add(SPEC, Input(name, 44_100, 2, 30, 120), **options)


def complete(store, job):
    begun = store.begin(job)
    folder = store.attempt_folder(begun)
    folder.mkdir(parents=True)
    (folder / "take-1.wav").write_bytes(b"take")
    (folder / "new-1.wav").write_bytes(b"new")
    (folder / "preview-1.s16").write_bytes(b"not kept")
    take = {"file": "take-1.wav", "new": "new-1.wav", "bytes": 7}
    assert store.complete(begun, {"takes": [take]})
    return store.job(job.id)


def test_what_one_front_makes_another_has(fronts):
    a, b = fronts(), fronts()
    job = complete(b, add(a))
    names = [f"jobs/{job.id}/1/new-1.wav", f"jobs/{job.id}/1/take-1.wav"]
    assert stored() == [f"inputs/{job.input}.wav", *names]
    for store in (a, b):
        path = store.take_path(store.job(job.id), 1)
        assert store.present(path).read_bytes() == b"take"
        assert store.present(store.input_path(job.input)).read_bytes() == b"prompt" * 20
        assert not store.present(path.with_name("take-9.wav")).exists()


def test_what_is_removed_is_removed_there_and_in_the_other_folder(fronts):
    a, b = fronts(), fronts()
    job = complete(a, add(a))
    assert b.present(b.take_path(job, 1)).exists()
    assert b.sweep(0.0, 1 << 40) == 1
    assert stored() == []
    here = [a.input_path(job.input), *a.attempt_folder(job).iterdir()]
    for path in (*here, a.attempt_folder(job), a.attempt_folder(job).parent):
        os.utime(path, (time.time() - AGE,) * 2)
    a.sweep(0.0, 1 << 40)
    assert not any(path.exists() for path in here)


def test_while_the_store_is_down_nothing_is_accepted_and_nothing_lost(fronts, down):
    a = fronts()
    job = a.begin(add(a))
    before = stored()
    down()
    with pytest.raises(ResultsGoneError, match="no route to host"):
        add(a)
    assert [each.id for each in a.waiting()] == [job.id]
    folder = a.attempt_folder(job)
    folder.mkdir(parents=True)
    (folder / "take-1.wav").write_bytes(b"take")
    result = {"takes": [{"file": "take-1.wav", "bytes": 4}]}
    with pytest.raises(ResultsGoneError):
        a.complete(job, result)
    assert a.results.gone
    assert a.job(job.id).state == RUNNING
    down()
    a.sweep(1e9, 1 << 40)
    assert not a.results.gone
    assert stored() == before
    assert a.complete(job, result)
    assert a.job(job.id).state == COMPLETED


def test_what_could_not_be_removed_is_found_later(fronts, down):
    a = fronts()
    kept, gone = complete(a, add(a)), complete(a, add(a))
    down()
    a.results.remove(a.attempt_folder(gone).parent)
    down()
    assert len(stored()) == 6
    a.results.remove_unnamed({kept.input}, {kept.id}, AGE)  # somebody may be about to write its row
    assert len(stored()) == 6
    a.results.remove_unnamed({kept.input}, {kept.id}, -1.0)
    assert {name.split("/")[1].partition(".")[0] for name in stored()} == {kept.input, kept.id}


def test_an_input_without_a_job_is_not_left_there(fronts):
    a = fronts()
    add(a)
    with pytest.raises(QueueFullError):
        add(a, most=1)
    assert len(stored()) == 1


def test_fronts_must_have_one_place(fronts, tmp_path):
    fronts()
    with pytest.raises(SegueError, match=r"other/place is not where other fronts .* --results"):
        fronts("memory://other/place")
    with pytest.raises(SegueError, match="is not where other fronts keep"):
        fronts(None)


def test_playing_on_from_what_another_front_made(fronts, tmp_path):
    a, b = fronts(), fronts()
    name, path = a.new_input()
    write_wav(path, 100)
    begun = a.begin(a.add(SPEC, Input(name, 44_100, 2, 100, path.stat().st_size)))
    folder = a.attempt_folder(begun)
    write_wav(folder / "take-1.wav", 300)
    write_wav(folder / "new-1.wav", 200)
    take = {"file": "take-1.wav", "new": "new-1.wav", "bytes": 7, "frames": 300}
    result = {"takes": [take], "join": 100, "first": 0, "sample_rate": 44_100, "channels": 2}
    assert a.complete(begun, result)
    piece = new_piece(b, b.job(begun.id), Parent(begun.id, 1, 300 / 44_100))
    assert piece.frames == 300


def test_the_routes_serve_what_is_not_here_and_say_when_the_store_is_down(tmp_path, down):
    settings = Settings(state=tmp_path / "state", results=ADDRESS)
    with InProcess(settings) as running:
        store, url = running.service.store, f"http://127.0.0.1:{running.port}"
        job = complete(store, add(store))
        shutil.rmtree(store.jobs / job.id)
        store.input_path(job.input).unlink()
        down()
        refused = httpx2.get(f"{url}/api/jobs/{job.id}/takes/1.wav")
        assert refused.status_code == 503
        line = "segue cannot reach the store of its music; try again in a while"
        assert line_of(refused.content) == line
        assert "the store of results" in httpx2.get(f"{url}/health").json()["message"]
        down()
        assert httpx2.get(f"{url}/api/jobs/{job.id}/takes/1.wav").content == b"take"
        assert httpx2.get(f"{url}/api/inputs/{job.input}/audio").content == b"prompt" * 20
        polled = httpx2.get(f"{url}/api/juce/poll_status/{job.id}").json()
        assert polled["status"] == "completed"
        store.sweep(0.0, 1 << 40)
        assert httpx2.get(f"{url}/api/jobs/{job.id}/takes/1.wav").status_code == 404


@pytest.mark.parametrize("address", ["nothing://bucket/x", "memory://bucket/../x"])
def test_an_address_that_cannot_be_used_leaves_no_folder(address, tmp_path):
    with pytest.raises(SegueError, match=r"no kind of storage|no \.\."):
        Store(tmp_path / "state", results=address)
    assert not list(tmp_path.iterdir())
