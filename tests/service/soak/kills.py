"""`kill -9`, of the worker and of the server, at random moments, with the queue never empty."""

from __future__ import annotations

import collections
import hashlib
import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import suppress

import httpx2

from ..server import Server, encoded, song
from .figures import Figures

SONGS = 2
SEEDS = 3
PLAIN = ("ran out of memory", "was ended by", "ended by itself")
GIVEN_UP = "3 times while it played"


class Clients:
    """Keeps the queue filled, and knows what was accepted.

    Attributes:
        accepted: from job to which music it is of.
        unanswered: requests whose connection broke: the job may be there or not.
    """

    def __init__(self, server: Server, waiting: int) -> None:
        self.server, self._waiting = server, waiting
        self.accepted: dict[str, tuple[int, int]] = {}
        self.unanswered = 0
        self.refused = 0
        self._songs = [encoded(song(1.5, 22_050, 1, seed=n), 22_050) for n in range(SONGS)]
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def fields(self, which: tuple[int, int]) -> dict[str, object]:
        """The request for a piece of music; some are long, most are short."""
        song_, seed = which
        long = 8 if seed == 0 else 3
        return {
            "audio_data": self._songs[song_],
            "seed": seed,
            "prompt_seconds": 1,
            "output_seconds": long,
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            url = self.server.url
            try:
                with httpx2.Client(base_url=url, timeout=20) as client:
                    if client.get("/health").json()["waiting"] >= self._waiting:
                        continue
                    which = (self._count % SONGS, self._count // SONGS % SEEDS)
                    self._count += 1
                    self.unanswered += 1
                    answer = client.post("/api/jobs", json=self.fields(which))
                    self.unanswered -= 1
                if answer.status_code == 202:
                    self.accepted[answer.json()["job_id"]] = which
                else:
                    self.refused += 1
            except (httpx2.TransportError, ValueError):
                continue


def kills(server: Server, times: int, waiting: int = 5, seed: int = 1) -> Figures:
    """Kill the worker so many times, and then the server, with so many jobs in the queue."""
    figures = Figures(f"kill -9 at {times} random moments each")
    random_ = random.Random(seed)
    clients = Clients(server, waiting)
    expected = references(server, clients)
    known: dict[str, str] = {}
    clients.start()
    try:
        when, hit = _kill_workers(server, random_, times)
        figures.add("worker killed", f"{times} times; while it {_counted(when)}")
        reread = 0
        for _ in range(times):
            time.sleep(random_.uniform(0.0, 4.0))
            learn(server, clients, known)
            server.kill()
            server.start()
            for job, kept in list(known.items()):
                assert digest(server, job) == kept, "a finished result is another now"
                reread += 1
    finally:
        clients.stop()
    figures.add("server killed and started again", f"{times} times")
    figures.add("finished results read again after each start, same bytes", reread)
    settle(server, clients, expected, hit, figures)
    return figures


def references(server: Server, clients: Clients) -> dict[tuple[int, int], str]:
    """What each piece of music sounds like when nobody disturbs it."""
    expected = {}
    for which in [(n, seed) for n in range(SONGS) for seed in range(SEEDS)]:
        job = server.post("/api/jobs", **clients.fields(which)).json()["job_id"]
        assert server.finished(job)["status"] == "completed"
        expected[which] = digest(server, job)
    assert len(set(expected.values())) == len(expected)
    return expected


def _kill_workers(
    server: Server, random_: random.Random, times: int
) -> tuple[collections.Counter[str], int]:
    """The phases in which it was killed, and how many jobs died with it at most."""
    when: collections.Counter[str] = collections.Counter()
    killed = 0
    while killed < times:
        time.sleep(random_.uniform(0.0, 2.0))
        health = server.get("/health").json()
        for worker in server.workers():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed += 1
                when["played" if health["playing"] else "waited"] += 1
    return when, killed


def _counted(counter: collections.Counter[str]) -> str:
    return ", ".join(f"{what} {n}" for what, n in counter.items())


def learn(server: Server, clients: Clients, known: dict[str, str]) -> None:
    """Fetch what has been finished since the last time."""
    for job in list(clients.accepted):
        if job not in known and server.get(f"/api/jobs/{job}").json()["status"] == "completed":
            known[job] = digest(server, job)


def digest(server: Server, job: str) -> str:
    answer = server.get(f"/api/jobs/{job}/takes/1.wav")
    assert answer.status_code == 200, answer.text
    return hashlib.sha256(answer.content).hexdigest()


def settle(
    server: Server,
    clients: Clients,
    expected: dict[tuple[int, int], str],
    hit: int,
    figures: Figures,
) -> None:
    """When the queue has run empty: every job is over, once, and sounds as it must."""
    server.until(lambda: _idle(server), "the queue does not run empty", 120)
    failed = {}
    for job, which in clients.accepted.items():
        state = server.get(f"/api/jobs/{job}").json()
        if state["status"] == "completed":
            assert digest(server, job) == expected[which], "not the music that was asked for"
        else:
            failed[job] = state["error"]
    given_up = [job for job, error in failed.items() if GIVEN_UP in error]
    assert all(any(word in error for word in (*PLAIN, GIVEN_UP)) for error in failed.values())
    assert len(failed) - len(given_up) <= hit, "more failed than a worker was killed under"
    for job in failed:
        again = server.post(f"/api/jobs/{job}/retry", seed=clients.accepted[job][1]).json()
        assert server.finished(again["job_id"])["status"] == "completed"
        assert digest(server, again["job_id"]) == expected[clients.accepted[job]]
    with sqlite3.connect(f"file:{server.state}/segue.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT id, state, attempts, deaths FROM jobs ORDER BY number").fetchall()
    retried, references = len(failed), len(expected)
    extra = len(rows) - len(clients.accepted) - retried - references
    assert 0 <= extra <= clients.unanswered, "jobs that nobody asked for"
    assert {state for _, state, _, _ in rows} <= {"completed", "failed"}
    for name, state, attempts, deaths in rows:
        folders = [p.name for p in (server.state / "jobs").glob(f"{name}/*")]
        assert folders == ([str(attempts)] if state == "completed" else []), "doubled, or lost"
        if name in given_up:
            assert deaths == 3
    done = collections.Counter(
        line["job"] for line in server.lines() if line["message"] == "job done"
    )
    assert max(done.values()) == 1, "a job was completed twice"
    interrupted = sum(deaths > 0 for _, _, _, deaths in rows)
    figures.add("jobs accepted", len(clients.accepted))
    figures.add(
        "completed exactly once, with the very samples that were asked for",
        len(clients.accepted) - len(failed),
    )
    figures.add(
        "failed with their worker, plain reason, retry completed", len(failed) - len(given_up)
    )
    figures.add("interrupted by a server's end and played again", interrupted - len(given_up))
    figures.add("given up after three ends of the server, retry completed", len(given_up))
    figures.add("lost, doubled, or other than asked for", 0)
    figures.add(
        "requests cut off unanswered (of them became jobs)", f"{clients.unanswered} ({extra})"
    )


def _idle(server: Server) -> bool:
    health = server.get("/health").json()
    return health["waiting"] == 0 and not health["playing"]
