"""A full disk: a clear refusal, nothing half-written, and all is well when there is room again.

A small disk of its own needs root on Linux; elsewhere, and besides, the service's own bound and a
limit on the size of its files stand in.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..server import Server, encoded, song
from .figures import Figures

DISK_MB = 320
"""More than the service wants to be free besides an upload."""

AUDIO = {"audio_data": encoded(song(2.0)), "prompt_seconds": 1}


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of `DISK_MB` at `folder`; False where that cannot be."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(folder)]
    mounted = sys.platform == "linux" and os.geteuid() == 0
    mounted = mounted and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all that is left, to the last byte."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for block in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * block)
    return path


def full_disk(folder: Path, *options: str) -> Figures:
    """On a disk of its own, filled while it plays, and emptied again."""
    figures = Figures("a full disk")
    with small_disk(folder / "small") as mounted:
        if not mounted:
            figures.add("a disk of its own", "not here: it needs root on Linux")
            return figures
        disk = folder / "small"
        with Server(disk / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
            server.log = folder / "small.log"
            _filled_and_emptied(server, lambda: fill(disk), Path.unlink, figures)
    return figures


def limited_files(folder: Path, *options: str) -> Figures:
    """No file of the service's may grow: what happens where a quota is spent."""
    figures = Figures("no file may grow (RLIMIT_FSIZE)")
    if sys.platform != "linux":
        figures.add("a limit from outside", "not here: it needs Linux")
        return figures

    with Server(folder / "limited", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:

        def limit(size: int) -> None:
            for pid in (server.process.pid, *server.workers(), *server.workers("reader")):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

        _filled_and_emptied(
            server, lambda: limit(1024), lambda _: limit(resource.RLIM_INFINITY), figures
        )
    return figures


def _filled_and_emptied(
    server: Server, fill_: Callable[[], Any], empty: Callable[[Any], Any], figures: Figures
) -> None:
    done = server.post("/api/jobs", **AUDIO, output_seconds=3, seed=1).json()["job_id"]
    assert server.finished(done)["status"] == "completed"
    digest = _digest(server, done)
    plays = server.post("/api/jobs", **AUDIO, output_seconds=40, seed=2).json()["job_id"]
    waits = server.post("/api/jobs", **AUDIO, output_seconds=3, seed=3).json()["job_id"]
    server.until(lambda: server.poll(plays)["progress"] > 2, "it does not play")
    filled = fill_()

    refused = []
    for path, fields in (
        ("/api/jobs", AUDIO),
        ("/api/juce/process_audio", AUDIO),
        (f"/api/jobs/{done}/retry", {}),
        ("/api/juce/retry_music", {"session_id": done}),
    ):
        answer = server.post(path, **fields)
        assert answer.status_code in (429, 507), answer.text
        assert answer.json()["success"] is False
        assert "disk" in answer.json()["error"], answer.json()["error"]
        refused.append(f"{answer.status_code}")
    said = answer.json()["error"]
    figures.add("new requests while it is full", f"{', '.join(refused)}: {said!r}")
    assert server.get("/health").json()["status"] == "unhealthy"
    figures.add("/health while it is full", "unhealthy")
    poll = server.finished(plays, 120)
    assert poll["status"] == "failed"
    assert "disk" in poll["error"], poll["error"]
    figures.add("the job that played", f"failed: {poll['error']!r}")
    assert server.get(f"/api/jobs/{plays}").json()["status"] == "failed"
    assert _digest(server, done) == digest
    figures.add("what was finished", "there, same bytes")

    empty(filled)
    assert server.get("/health").json()["status"] == "live"
    assert server.finished(waits, 120)["status"] == "completed"
    figures.add("the job that waited", "completed when there was room")
    again = server.post(f"/api/jobs/{plays}/retry", output_seconds=3).json()["job_id"]
    assert server.finished(again)["status"] == "completed"
    figures.add("a retry of what failed", "completed")
    _nothing_half(server, {done, waits, again})
    before = time.monotonic()
    server.stop()
    server.start()
    for job in (done, waits, again):
        assert server.poll(job)["status"] == "completed"
    assert server.poll(plays)["status"] == "failed"
    assert _digest(server, done) == digest
    figures.add("after a restart", f"all of it as it was ({time.monotonic() - before:.0f} s)")


def _nothing_half(server: Server, completed: set[str]) -> None:
    kept = {
        path.relative_to(server.state / "jobs").parts for path in server.state.glob("jobs/*/*/*")
    }
    assert {parts[0] for parts in kept} == completed
    assert {parts[2] for parts in kept} == {"take-1.wav"}
    assert list((server.state / "uploads").iterdir()) == []
    assert not list(server.state.rglob("*.part"))


def _digest(server: Server, job: str) -> str:
    return hashlib.sha256(server.get(f"/api/jobs/{job}/takes/1.wav").content).hexdigest()
