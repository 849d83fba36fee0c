"""Many clients at once, each with music of its own, and each answered once and with its own."""

from __future__ import annotations

import base64
import collections
import http.client
import io
import json
import sqlite3
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import soundfile

from ..gary import Gary
from ..server import Server, decoded, encoded, song
from .figures import Figures

KINDS = ("process", "continue", "retry", "native", "takes", "events", "wav", "poller")
RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000)
PLUGIN_PROMPT = 28
"""Seconds, so that of the plugin's 30 few are new: it is the crowd that is tried, not the model."""


class Client:
    """One of the crowd: its music, its seed, and what it was answered."""

    def __init__(self, server: Server, number: int) -> None:
        self.number, self.kind = number, KINDS[number % len(KINDS)]
        self.url, self.model = server.url, server.options[3]
        self.seed = 1000 + number
        self.rate = RATES[number % len(RATES)]
        self.channels = 1 + number // len(KINDS) % 2
        plugin = self.kind in ("process", "continue", "retry")
        seconds = PLUGIN_PROMPT + 1 if plugin else 3
        self.song = song(seconds, self.rate, self.channels, seed=number)
        options = {"format": "FLAC"} if number % 3 == 0 else {}
        self.audio = encoded(self.song, self.rate, **options)
        self.http = httpx2.Client(base_url=self.url, timeout=300)
        self.sessions: list[str] = []
        self.answers: list[np.ndarray] = []
        self.requests = 0
        self.error: BaseException | None = None

    def run(self, over: threading.Event) -> None:
        try:
            getattr(self, f"_{self.kind}")(*([over] if self.kind == "poller" else []))
        except BaseException as error:
            self.error = error

    # --- The plugin's ---------------------------------------------------------------------------

    def _gary(self) -> Gary:
        gary = Gary(self.url, pace=0.3, model=self.model)
        gary.watch = self._watch
        return gary

    def _watch(self, poll: dict[str, Any]) -> None:
        self.requests += 1
        assert poll["status"] in ("processing", "warming", "completed"), poll["status"]
        assert poll["generation_seed"] == str(self.seed)

    def _process(self, gary: Gary | None = None) -> None:
        gary = gary or self._gary()
        said = gary.process(self.audio, prompt_duration=PLUGIN_PROMPT, seed=self.seed)
        self._heard(gary.session, *decoded(said), PLUGIN_PROMPT, 30)

    def _continue(self) -> None:
        gary = self._gary()
        said = gary.resume(self.audio, prompt_duration=PLUGIN_PROMPT, seed=self.seed)
        self._heard(gary.session, *decoded(said), PLUGIN_PROMPT + 1, 31)

    def _retry(self) -> None:
        gary = self._gary()
        self._process(gary)
        self.seed += 500
        said = gary.retry(prompt_duration=PLUGIN_PROMPT, seed=self.seed)
        self._heard(gary.session, *decoded(said), PLUGIN_PROMPT, 30)

    # --- The service's own ----------------------------------------------------------------------

    def _begin(self, **fields: Any) -> str:
        asked = {"audio_data": self.audio, "seed": self.seed, "model_name": self.model} | fields
        answer = self.http.post("/api/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def _done(self, job: str) -> dict[str, Any]:
        while True:
            self.requests += 1
            state: dict[str, Any] = self.http.get(f"/api/jobs/{job}").json()
            if state["status"] in ("completed", "failed", "cancelled"):
                assert state["status"] == "completed", state.get("error")
                assert state["seed"] == self.seed
                return state
            time.sleep(0.3)

    def _native(self, start: float = 0.0, takes: int = 1) -> None:
        job = self._begin(prompt_start=start, prompt_seconds=1, output_seconds=2, variations=takes)
        state = self._done(job)
        assert [take["seed"] for take in state["takes"]] == [self.seed + n for n in range(takes)]
        for take in state["takes"]:
            samples, rate = _read(self.http.get(take["url"]).content)
            self._heard(job, samples, rate, "PCM_16", start + 1, start + 2)
        assert len({take.tobytes() for take in self.answers}) == takes

    def _takes(self) -> None:
        self._native(start=1.5, takes=2)

    def _events(self) -> None:
        job = self._begin(prompt_seconds=1, output_seconds=3)
        pieces, name, last = [], "", {}
        with self.http.stream("GET", f"/api/jobs/{job}/stream") as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    last = json.loads(line[6:])
                    if name == "audio":
                        pieces.append(base64.b64decode(last["pcm"]))
        assert (name, last) == ("done", {"status": "completed"})
        self._streamed(job, b"".join(pieces))

    def _wav(self) -> None:
        job = self._begin(prompt_seconds=1, output_seconds=3)
        content = self.http.get(f"/api/jobs/{job}/stream?format=wav").content
        self._streamed(job, content[44:])

    def _streamed(self, job: str, pcm: bytes) -> None:
        """A stream is as long as the take, and sounds like it."""
        (take,) = self._done(job)["takes"]
        samples, rate = _read(self.http.get(take["url"]).content)
        self._heard(job, samples, rate, "PCM_16", 1, 3)
        heard = np.frombuffer(pcm, "<i2").reshape(-1, self.channels)
        exact = samples[rate:]
        assert heard.shape == exact.shape
        error = (heard.astype(float) - exact)[rate // 10 :]  # behind the splice
        assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((exact.astype(float) ** 2).mean())

    def _poller(self, over: threading.Event) -> None:
        paths = {"/health": 200, "/api/models": 200, "/api/service": 200, "/api/jobs/no": 404}
        while not over.is_set():
            for path, status in paths.items():
                self.requests += 1
                assert self.http.get(path).status_code == status
            assert self.http.get("/health").json()["status"] == "live"
            time.sleep(0.5)

    # --- What was heard -------------------------------------------------------------------------

    def _heard(
        self,
        session: str,
        samples: np.ndarray,
        rate: int,
        subtype: str,
        kept_seconds: float,
        seconds: float,
    ) -> None:
        """The answer is of the right shape, and begins with this client's own music."""
        kept = round(kept_seconds * self.rate)
        assert (rate, subtype) == (self.rate, "PCM_16")
        assert samples.shape == (round(seconds * self.rate), self.channels)
        assert (samples[:kept] == self.song[:kept]).all()
        assert samples[kept:].any()
        if session not in self.sessions:
            self.sessions.append(session)
        self.answers.append(samples)


def _read(content: bytes) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    return samples, rate


def vanish(server: Server) -> None:
    """Clients that go: in the middle of a body, of a head, and of a stream."""
    address = ("127.0.0.1", urlsplit(server.url).port)
    for cut in (b"{", b'{"audio_data": "' + b"A" * 100_000):
        connection = http.client.HTTPConnection(*address)
        connection.putrequest("POST", "/api/jobs")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "5000000")
        connection.endheaders(cut)
        connection.close()


def crowd(server: Server, clients: int) -> Figures:
    """All at once; then some of them again, alone, for the same music."""
    figures = Figures(f"{clients} clients at once")
    before = _jobs(server)
    crowd_ = [Client(server, number) for number in range(clients)]
    over = threading.Event()
    threads = [threading.Thread(target=client.run, args=(over,)) for client in crowd_]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    vanish(server)
    for client, thread in zip(crowd_, threads, strict=True):
        if client.kind != "poller":
            thread.join(600)
    over.set()
    took = time.monotonic() - began
    for thread in threads:
        thread.join(30)
    for client in crowd_:
        if client.error is not None:
            raise AssertionError(f"{client.kind} {client.number}") from client.error
    sessions = [session for client in crowd_ for session in client.sessions]
    assert len(set(sessions)) == len(sessions)
    jobs = {name: job for name, job in _jobs(server).items() if name not in before}
    assert sorted(jobs) == sorted(sessions), "a session without a client, or the reverse"
    assert set(jobs.values()) == {("completed", 1)}, "not each was played once"
    done = collections.Counter(
        line["job"] for line in server.lines() if line["message"] == "job done"
    )
    assert all(done[session] == 1 for session in sessions)
    alone = [client for client in crowd_ if client.kind in ("native", "process")][:3]
    for client in alone:
        again = Client(server, client.number)
        again.run(over)
        assert again.error is None
        assert (again.answers[0] == client.answers[0]).all(), "another alone than in the crowd"
    kinds = collections.Counter(client.kind for client in crowd_)
    figures.add("clients", ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    figures.add("sessions begun, completed, played once", f"{len(sessions)}, all, all")
    figures.add("answers checked sample for sample", sum(len(c.answers) for c in crowd_))
    figures.add("polls and other requests", sum(client.requests for client in crowd_))
    figures.add("played again alone, the same samples", len(alone))
    figures.add("seconds", f"{took:.0f}")
    assert server.get("/health").json()["status"] == "live"
    assert list((server.state / "uploads").iterdir()) == []
    return figures


def _jobs(server: Server) -> dict[str, tuple[str, int]]:
    """State and attempts of every job, as the disk has them."""
    with sqlite3.connect(f"file:{server.state}/segue.db?mode=ro", uri=True) as db:
        return {
            name: (state, attempts)
            for name, state, attempts in db.execute("SELECT id, state, attempts FROM jobs")
        }
