"""A real service: `python -m segue serve` in a process of its own, on a free port of loopback.

    with Server(tmp_path / "state", "--models", str(folder), environment={...}) as server:
        server.get("/health").json()

It can be stopped, killed and started again on the same state; `log` is what it said.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile

SECONDS = 60.0


class Server:
    """A service that runs while it is open.

    Args:
        state: its folder.
        options: of `segue serve`.
        environment: on top of this process's own.

    Attributes:
        url: of the service.
        log: the file with what it says.
    """

    def __init__(
        self, state: Path, *options: str, environment: dict[str, str] | None = None
    ) -> None:
        self.state, self.options = state, options
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("G4L_")},
            "HF_HOME": str(state.parent / "hf"),
            **(environment or {}),
        }
        self.log = state.with_suffix(".log")
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.client: httpx2.Client | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "segue", "serve", "--port", "0"),
                    *("--state-dir", str(self.state), "--log-format", "json", *self.options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        line = self.process.stdout.readline()
        if not line.startswith("segue serves http"):
            self.process.wait()
            raise RuntimeError(f"it did not start: {self.log.read_text()}")
        self.url = line.split()[2]
        self.client = httpx2.Client(base_url=self.url, timeout=SECONDS)
        self.until(lambda: self._alive(), "it does not answer")

    def _alive(self) -> bool:
        try:
            return self.get("/health").status_code in (200, 401)
        except httpx2.TransportError:
            assert self.process.poll() is None, self.log.read_text()
            return False

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        if self.client is not None:
            self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        """`kill -9`."""
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def workers(self, role: str = "player") -> list[int]:
        """The processes of a role that the service has now."""
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="],
            capture_output=True,
            text=True,
            check=True,
        )
        found = []
        for line in listed.stdout.splitlines():
            pid, parent, command = line.split(None, 2)
            if int(parent) == self.process.pid and f'"role": "{role}"' in command:
                found.append(int(pid))
        return found

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        foreign = self.foreign_lines()
        return [json.loads(line) for line in self._written() if line not in foreign]

    def foreign_lines(self) -> list[str]:
        """What Ray's part in C++ writes to the stream that the log goes to."""
        if "--cluster" not in self.options:
            return []
        return [line for line in self._written() if not line.startswith("{")]

    def _written(self) -> list[str]:
        """The lines that are whole."""
        text = self.log.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    # --- Requests -------------------------------------------------------------------------------

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.get(path, **options)

    def post(self, path: str, **fields: Any) -> httpx2.Response:
        return self.client.post(path, json=fields)

    def delete(self, path: str) -> httpx2.Response:
        return self.client.delete(path)

    def stream(self, path: str, **options: Any) -> Any:
        return self.client.stream("GET", path, **options)

    def poll(self, session: str) -> dict[str, Any]:
        return self.get(f"/api/juce/poll_status/{session}").json()

    def finished(self, session: str, seconds: float = SECONDS) -> dict[str, Any]:
        """The poll of a session that is over."""
        return self.until(
            lambda: (p := self.poll(session))["status"] in ("completed", "failed", "unknown") and p,
            f"{session} does not end",
            seconds,
        )

    def until(self, holds: Any, otherwise: str, seconds: float = SECONDS) -> Any:
        """Wait for something, at a quick pace."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.05)
        raise AssertionError(otherwise)


def song(seconds: float = 2.0, rate: int = 44_100, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Something to continue: `(T, C)` int16."""
    random = np.random.default_rng(seed)
    return (3000 * random.standard_normal((round(seconds * rate), channels))).astype(np.int16)


def encoded(samples: np.ndarray, rate: int = 44_100, **options: Any) -> str:
    """An audio file in base64, as clients send it."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return base64.b64encode(file.getvalue()).decode()


def decoded(audio_data: str) -> tuple[np.ndarray, int, str]:
    """Samples, rate and subtype of what the service answers."""
    with soundfile.SoundFile(io.BytesIO(base64.b64decode(audio_data))) as file:
        return file.read(dtype="int16", always_2d=True), file.samplerate, file.subtype


def begin(server: Server, seconds: float = 2.0, **fields: Any) -> str:
    """Ask for `seconds` of music, by default of two seconds of a song; returns the job's id."""
    audio = encoded(song(2.0))
    given = {"audio_data": audio, "prompt_seconds": 1, "output_seconds": seconds} | fields
    answer = server.post("/api/jobs", **given)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def playing(server: Server, *jobs: str) -> None:
    """Wait until jobs have begun to play."""
    server.until(lambda: all(server.poll(job)["progress"] > 2 for job in jobs), "they do not play")
