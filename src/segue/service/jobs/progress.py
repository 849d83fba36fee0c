"""Progress of a job and of a download, while they wait or run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal["queued", "download", "load", "generate"]
Clock = Callable[[], float]

_SHARES = {"encode": (0.00, 0.02), "generate": (0.02, 0.95), "decode": (0.95, 0.99)}
"""The part of the phase `generate` that each stage takes, about."""

_MESSAGES = {
    "encode": "listening to your audio",
    "read the text": "reading the description",
    "load the text encoder": "reading the description",
    "generate": "playing on",
    "decode": "turning it into sound",
    "write": "saving",
}


class Speed:
    """Bytes a second over the last moments.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def at(self, done: int) -> float:
        """The speed, with so many bytes here now."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > 5:
            self._seen.pop(0)
        (then, before), (_, after) = self._seen[0], self._seen[-1]
        return max(0.0, after - before) / (now - then) if now > then else 0.0


@dataclass
class DownloadProgress:
    """How far a download is, and its fields in the plugin's `queue_status`.

    Attributes:
        repository: which is fetched now.
        index, of: its number, from 1, of those that are fetched.
        done, total: bytes of it.
        speed: bytes a second.
    """

    repository: str
    index: int = 1
    of: int = 1
    done: int = 0
    total: int = 0
    speed: float = 0.0
    _speed: Speed = field(default_factory=Speed)
    _furthest: float = 0.0

    def update(self, message: dict[str, Any]) -> None:
        """Update it from a message of the worker that downloads."""
        if "repository" in message:
            self.repository, self.index = message["repository"], message["index"]
            self.of = message["of"]
            self.done = self.total = 0
            self._speed = Speed()
        elif message.get("unit") == "B":
            self.done, self.total = message["done"], message["total"] or 0
            self.speed = self._speed.at(self.done)

    @property
    def percent(self) -> float:
        """Of all that is fetched, each repository counted alike.

        What a fine-tune needs besides shows when it is here; the number then waits.
        """
        part = self.done / self.total if self.total else 0.0
        self._furthest = max(self._furthest, (self.index - 1 + part) / self.of)
        return round(100 * self._furthest, 1)

    @property
    def seconds_left(self) -> float | None:
        """Of this repository, if anything moves."""
        return (self.total - self.done) / self.speed if self.total and self.speed > 0 else None

    @property
    def message(self) -> str:
        """One line for people."""
        if not self.total:
            return f"downloading {self.repository}: asking for its files"
        mb, of_mb = self.done / 1e6, self.total / 1e6
        return f"downloading {self.repository}: {mb:.0f} of {of_mb:.0f} MB"

    def fields(self) -> dict[str, Any]:
        """Its fields in `queue_status`.

        Bytes and percent are of the repository that is fetched now; gary4local works the whole out
        of them and of the stage's number, and takes no percent but a whole one.
        """
        return {
            "phase": "download",
            "repo_id": self.repository,
            "download_percent": 100 * self.done // self.total if self.total else 0,
            "downloaded_bytes": self.done,
            "total_bytes": self.total,
            "speed_bps": round(self.speed),
            "stage_name": self.repository,
            "stage_index": self.index,
            "stage_total": self.of,
        }


@dataclass
class JobProgress:
    """How far a job is.

    Attributes:
        phase: `queued`, `download`, `load` or `generate`.
        fraction: of the phase `generate` that is done, 0 to 1.
        message: one line for people.
        download: of the phase `download`.
        generating_since: when the phase `generate` began, by `clock`.
        ran: engine, device and quantization, once they are known.
        preview_frames: samples per channel of the preview that lie on disk.
        clock: seconds that only go forward.
    """

    phase: Phase = "queued"
    fraction: float = 0.0
    message: str = "waiting"
    download: DownloadProgress | None = None
    generating_since: float | None = None
    ran: dict[str, Any] = field(default_factory=dict)
    preview_frames: int = 0
    clock: Clock = time.monotonic
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, message: dict[str, Any]) -> None:
        """Update it from a message of the worker that generates."""
        if message.get("generating"):
            self.phase, self.message = "generate", _MESSAGES["encode"]
            self.generating_since, self.download = self.clock(), None
            self.ran = {key: message[key] for key in ("engine", "device", "quantization")}
        elif "preview" in message:
            self.preview_frames = message["preview"]
        elif "stage" in message:
            self._update_stage(message)
        self.notify()

    def _update_stage(self, message: dict[str, Any]) -> None:
        stage, done, total = message["stage"], message["done"], message["total"]
        if message["unit"] == "B":  # a download that nobody could foresee
            if self.download is None:
                self.download = DownloadProgress(stage.removeprefix("download "))
            self.download.update(message)
            if self.phase != "generate":
                self.phase = "download"
            self.message = self.download.message
        elif self.phase == "generate":
            self.message = _MESSAGES.get(stage, stage)
            if stage in _SHARES:
                start, stop = _SHARES[stage]
                part = done / total if total else 0.0
                self.fraction = max(self.fraction, start + (stop - start) * part)
        else:
            self.phase, self.download = "load", None
            quantizing = stage == "quantize" and total
            self.message = (
                f"quantizing the model, once: {100 * done // total} %"
                if quantizing
                else "loading the model"
            )

    def restart(self) -> None:
        """Wait once more, as if nothing had been done."""
        self.phase, self.fraction, self.message = "queued", 0.0, "waiting"
        self.download, self.generating_since, self.preview_frames = None, None, 0
        self.notify()

    def said(self) -> dict[str, Any]:
        """What other fronts are told of it, as JSON holds it."""
        since = self.generating_since
        return {
            "phase": "load" if self.phase == "download" else self.phase,
            "fraction": round(self.fraction, 3),
            "message": self.message,
            "ran": self.ran,
            "preview": self.preview_frames,
            "generating": None if since is None else round(self.clock() - since, 3),
        }

    def follow(self, said: dict[str, Any]) -> None:
        """Take over what another front says of a job that runs there; see `said`."""
        self.phase, self.fraction = said["phase"], said["fraction"]
        self.message, self.ran = said["message"], said["ran"]
        self.preview_frames = said["preview"]
        generating = said["generating"]
        self.generating_since = None if generating is None else self.clock() - generating
        self.notify()

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a change, but no longer than `seconds`."""
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return
