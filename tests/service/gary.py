"""A client that does what gary4juce does, request for request.

It posts, polls about once a second, reads nothing but the body of an answer, and gives up where the
plugin does: on `success: false` that does not speak of a wait, and when nothing moves for a while
and nothing says that it should be waited for.

    Gary("http://localhost:8000").process(audio_data, prompt_duration=6)

Its clock can be sped up, so that tests need not wait as long as people do.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

POLL_SECONDS = 1.0
STALL_SECONDS = 90.0
WAITS = ("downloading", "warming")


class GaveUpError(Exception):
    """What the plugin shows when a run ends without music."""


@dataclass
class Gary:
    """The plugin.

    Attributes:
        url: of the service.
        pace: seconds between two polls.
        shown: what the user saw, line after line.
        session: the last one, which a retry is of.
    """

    url: str = "http://localhost:8000"
    pace: float = POLL_SECONDS
    model: str = "thepatch/vanya_ai_dnb_0.1"
    quantization: str | None = None
    shown: list[str] = field(default_factory=list)
    session: str = ""
    watch: Callable[[dict[str, Any]], None] = lambda poll: None

    # --- What its buttons do --------------------------------------------------------------------

    def connected(self) -> bool:
        """Whether the lamp is green."""
        return self._get("/health").get("status") in ("live", "healthy", "ok")

    def models(self) -> list[str]:
        """The entries of its menus."""
        answer = self._get("/api/models")
        if not answer.get("success"):
            raise GaveUpError("no models")
        paths = []
        for size in ("small", "medium", "large"):
            for entry in answer["models"][size]:
                if entry["type"] == "group":
                    paths += [checkpoint["path"] for checkpoint in entry["checkpoints"]]
                else:
                    paths.append(entry["path"])
        return paths

    def process(self, audio_data: str, **fields: Any) -> str:
        """Send the recorded buffer; the audio that comes back, in base64."""
        return self._run("/api/juce/process_audio", audio_data=audio_data, **fields)

    def resume(self, audio_data: str, **fields: Any) -> str:
        """Continue what came out last."""
        return self._run("/api/juce/continue_music", audio_data=audio_data, **fields)

    def retry(self, **fields: Any) -> str:
        """Do the last one again."""
        return self._run("/api/juce/retry_music", session_id=self.session, **fields)

    def is_downloaded(self, path: str) -> bool:
        """Whether there is a mark beside a model."""
        answer = self._get(f"/api/models/download_status?model_name={path}")
        return bool(answer["models"][path]["downloaded"])

    def predownload(self, path: str) -> list[int]:
        """Fetch a model; the progress that was seen."""
        answer = self._post("/api/models/predownload", {"model_name": path})
        if not answer.get("success"):
            raise GaveUpError(answer["error"])
        seen = []
        while True:
            status = self._get(f"/api/models/predownload_status/{answer['session_id']}")
            seen.append(int(status["progress"]))
            if status["status"] == "completed":
                return seen
            if status["status"] == "failed" or not status["success"]:
                raise GaveUpError(status["error"])
            time.sleep(self.pace)

    # --- Underneath -----------------------------------------------------------------------------

    def _run(self, path: str, **fields: Any) -> str:
        usual: dict[str, Any] = {
            "model_name": self.model,
            "prompt_duration": 6,
            "top_k": 250,
            "temperature": 1.0,
            "cfg_coef": 3.0,
            "description": "",
            "seed": -1,
        }
        if self.quantization is not None:
            usual["quantization_mode"] = self.quantization
        answer = self._post(path, usual | fields)
        if not answer.get("success"):
            raise GaveUpError(answer.get("error", "the backend says nothing"))
        self.session = answer["session_id"]
        return self._poll()

    def _poll(self) -> str:
        moved, last = time.monotonic(), -1
        while True:
            poll = self._get(f"/api/juce/poll_status/{self.session}")
            self.watch(poll)
            queue = poll.get("queue_status") or {}
            if not poll.get("success"):
                error = str(poll.get("error", ""))
                if not any(word in error.lower() for word in WAITS):
                    raise GaveUpError(error or "unknown error")
            elif poll["status"] == "completed" and poll.get("audio_data"):
                self._show("done")
                return str(poll["audio_data"])
            elif queue.get("status") == "warming":
                moved = time.monotonic()
                self._show(queue["message"])
            elif queue.get("status") == "queued":
                moved = time.monotonic()
                position, seconds = int(queue["position"]), int(queue["estimated_seconds"])
                self._show(f"busy, position # {position}, wait ~{seconds}s")
            else:
                if int(poll["progress"]) != last:
                    moved, last = time.monotonic(), int(poll["progress"])
                self._show(f"{poll['progress']} %")
            if time.monotonic() - moved > STALL_SECONDS * self.pace / POLL_SECONDS:
                raise GaveUpError("the backend has stalled")
            time.sleep(self.pace)

    def _show(self, line: str) -> None:
        if not self.shown or self.shown[-1] != line:
            self.shown.append(line)

    def _get(self, path: str) -> dict[str, Any]:
        return self._body(urllib.request.Request(f"{self.url}{path}"))

    def _post(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        body = json.dumps(fields).encode()
        return self._body(urllib.request.Request(f"{self.url}{path}", body, headers))

    def _body(self, request: urllib.request.Request) -> dict[str, Any]:
        """The body alone: to JUCE, any stream is a success."""
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        body: dict[str, Any] = json.loads(content)
        return body
