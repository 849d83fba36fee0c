"""Clients that do what gary4juce and gary4local do, request for request.

`Gary` is the plugin: it posts, polls about once a second, and reads nothing but the body of an
answer.  Its rule for what a poll means is the plugin's (gary4juce 4.0.13), branch by branch:

- `success: false` ends the run, unless the error contains one of `WARMING_WORDS`: then the plugin
  takes it for a model that is being loaded, and polls on, for ever if need be;
- while `generation_in_progress`, `queue_status` or `progress` is shown.  When nothing moves for a
  while and nothing says that it should be waited for, the plugin gives up (its real stall timer is
  milder: any word in `queue_status.status` resets it);
- otherwise the run is over, with the audio, with the reason of a failure, or with a bare status.

    Gary("http://localhost:8000").process(audio_data, prompt_duration=6)

Time is counted in polls, not in seconds, so that tests depend on no clock and need not wait as long
as people do.  What gary4local decodes, it decodes into fixed types: `decoded` stands for that.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

POLL_SECONDS = 1.0
STALL_POLLS = 90
WARMING_WORDS = (
    "download",
    "loading model",
    "loading weights",
    "warmup",
    "warming",
    "huggingface",
    "initializing",
)


class GaveUpError(Exception):
    """What a client shows when it ends without what it was asked for."""


class HangsError(AssertionError):
    """The plugin would poll on for ever."""


@dataclass
class Gary:
    """The plugin.

    Attributes:
        url: of the service.
        pace: seconds between two polls.
        polls: how many of one run make a test fail, because a real plugin would never end.
        shown: what the user saw, line after line.
        session: the last one, which a retry is of.
        seed: what the seed box shows.
    """

    url: str = "http://localhost:8000"
    pace: float = POLL_SECONDS
    polls: int = 5_000
    model: str = "thepatch/vanya_ai_dnb_0.1"
    quantization: str | None = None
    shown: list[str] = field(default_factory=list)
    session: str = ""
    seed: str = ""
    watch: Callable[[dict[str, Any]], None] = lambda poll: None

    # --- What its buttons do --------------------------------------------------------------------

    def connected(self) -> bool:
        """Whether the lamp is green."""
        return self._get("/health").get("status") in ("live", "healthy", "ok")

    def models(self) -> dict[str, str]:
        """The entries of its menus: what is shown of each, by path."""
        answer = self._get("/api/models")
        if not answer.get("success"):
            raise GaveUpError("no models")
        paths = {}
        for size in ("small", "medium", "large"):
            for entry in answer["models"][size]:
                decoded(entry, MODEL)
                if entry["type"] == "group":
                    for checkpoint in entry["checkpoints"]:
                        decoded(checkpoint, CHECKPOINT)
                        shown = f"{checkpoint['name']} (epoch {checkpoint['epoch']})"
                        paths[checkpoint["path"]] = shown
                else:
                    paths[entry["path"]] = entry["name"]
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

    # --- What gary4local asks of a service ------------------------------------------------------

    def is_downloaded(self, path: str) -> bool:
        """Whether there is a mark beside a model."""
        answer = self._get(f"/api/models/download_status?model_name={path}")
        return bool(decoded(answer["models"][path], DOWNLOAD_STATUS)["downloaded"])

    def predownload(self, path: str) -> list[int]:
        """Fetch a model; the progress that was seen."""
        answer = self._post("/api/models/predownload", {"model_name": path})
        if not answer.get("success"):
            raise GaveUpError(answer["error"])
        decoded(answer, PREDOWNLOAD_STARTED)
        seen = []
        for _ in range(self.polls):
            status = self._get(f"/api/models/predownload_status/{answer['session_id']}")
            decoded(status, PREDOWNLOAD)
            decoded(status["queue_status"] or {}, QUEUE)
            if not status["success"]:
                raise GaveUpError("model download polling failed.")
            seen.append(status["progress"])
            if status["status"] == "completed":
                return seen
            if status["status"] == "failed":
                message = (status["queue_status"] or {}).get("message") or status["error"]
                raise GaveUpError(message or "download failed")
            time.sleep(self.pace)
        raise HangsError(f"it polls on: {status}")

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
        self._show_seed(answer.get("seed"))
        return self.poll()

    def poll(self) -> str:
        """Wait for the session; the audio that comes back, in base64."""
        still = furthest = 0
        for _ in range(self.polls):
            poll = self._get(f"/api/juce/poll_status/{self.session}")
            self.watch(poll)
            if not poll.get("success"):
                moved = self._not_answered(poll)
            elif poll.get("generation_in_progress") or poll.get("transform_in_progress"):
                self._show_seed(poll.get("generation_seed"))
                progress = max(0, min(100, int(poll.get("progress") or 0)))
                moved = self._waits(poll, progress) or progress > furthest
                furthest = max(furthest, progress)
            else:
                self._show_seed(poll.get("generation_seed"))
                return self._over(poll)
            still = 0 if moved else still + 1
            if still > STALL_POLLS:
                raise GaveUpError("generation timed out - try again or check backend logs")
            time.sleep(self.pace)
        raise HangsError(f"it polls on: {poll}")

    def _not_answered(self, poll: dict[str, Any]) -> bool:
        error = str(poll.get("error") or "").strip()
        if any(word in error.lower() for word in WARMING_WORDS):
            self._show("warming up (downloading model)...")
            return True
        raise GaveUpError(f"processing failed: {error}" if error else "processing failed")

    def _waits(self, poll: dict[str, Any], progress: int) -> bool:
        """Show a run that goes on; whether it says that it should be waited for."""
        queue = poll.get("queue_status") or {}
        if queue.get("status") == "warming":
            self._show(queue.get("message") or "warming up (loading model)...")
            return True
        if queue.get("status") == "queued":
            position, seconds = int(queue["position"]), int(queue["estimated_seconds"])
            self._show(f"busy, position # {position}, wait ~{seconds}s")
            return True
        self._show(f"{progress} %")
        return False

    def _over(self, poll: dict[str, Any]) -> str:
        status, audio_data = poll.get("status"), poll.get("audio_data")
        if status == "completed" and audio_data:
            self._show("done")
            return str(audio_data)
        if status == "completed":
            raise GaveUpError("generation completed but no audio received")
        if status == "failed":
            error = poll.get("error")
            raise GaveUpError(f"generation failed: {error}" if error else "generation failed")
        raise GaveUpError(f"processing failed: {status or 'missing terminal status'}")

    def _show(self, line: str) -> None:
        if not self.shown or self.shown[-1] != line:
            self.shown.append(line)

    def _show_seed(self, seed: Any) -> None:
        if seed is not None and str(seed).strip():
            self.seed = str(seed).strip()

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


# --- gary4local's types ---------------------------------------------------------------------------

_STRING, _INTEGER = (str, type(None)), (int, type(None))

MODEL = {"name": (str,), "path": _STRING, "type": (str,), "checkpoints": (list, type(None))}
CHECKPOINT = {"name": (str,), "path": (str,), "epoch": _INTEGER}
DOWNLOAD_STATUS = {"downloaded": (bool,), "missing": (list, type(None))}
PREDOWNLOAD_STARTED = {
    "success": (bool,),
    "session_id": (str,),
    "model_name": (str,),
    "message": _STRING,
}
PREDOWNLOAD = {
    "success": (bool,),
    "session_id": (str,),
    "model_name": _STRING,
    "status": (str,),
    "progress": (int,),
    "queue_status": (dict, type(None)),
    "error": _STRING,
}
QUEUE = {
    "message": _STRING,
    "repo_id": _STRING,
    "stage_name": _STRING,
    "stage_index": _INTEGER,
    "stage_total": _INTEGER,
    "download_percent": _INTEGER,
}


def decoded(value: dict[str, Any], types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """`value`, if every field has one of its types; Swift's decoder takes no other.

    Raises:
        GaveUpError: as gary4local, which shows no more than that.
    """
    for name, known in types.items():
        if type(value.get(name)) not in known:
            raise GaveUpError(f"download polling failed: {name} is {value.get(name)!r}")
    return value
