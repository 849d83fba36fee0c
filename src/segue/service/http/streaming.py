"""Music while it is made: server-sent events, or a WAV whose end is not known yet.

What is heard first is the preview that the player writes; from the moment the job is done it is the
take itself, from the same sample on.  Nothing is kept for a client but its place in a file.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..jobs.queue import View
from ..jobs.store import COMPLETED, Job
from ..service import Service
from .views import join_seconds, progress_of, queue_status, status_of
from .wav_header import LENGTH, wav_header

_SECONDS_BETWEEN = 1.0
"""Between two looks, where nothing happens; and so long a client that is gone may go unnoticed."""

_PIECE_SECONDS = 2
"""Of audio in one event."""


class _Stream(StreamingResponse):
    """An answer that is one of a job's streams, from its first byte until its client is gone."""

    def __init__(
        self, service: Service, job_id: str, content: AsyncIterator[bytes], media_type: str
    ) -> None:
        super().__init__(content, media_type=media_type)
        self._streams, self._job_id = service.streams, job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.one(self._job_id):
            await super().__call__(scope, receive, send)


class _Sound:
    """The continuation of a job, as 16-bit samples, as far as it is there.

    Attributes:
        sample_rate, channels, takes, join_seconds: of it.
    """

    def __init__(self, service: Service, job: Job) -> None:
        self._service = service
        input_ = service.store.input(job.input)
        self.sample_rate = input_.sample_rate if input_ else 0
        self.channels = input_.channels if input_ else 0
        self.takes = int(job.asked["request"]["variations"])
        self.join_seconds = join_seconds(job, input_) or 0.0
        self._frame = 2 * self.channels

    def read(self, view: View, take: int, start: int) -> bytes:
        """What of a take is there from the sample `start` on, at most a piece."""
        most = _PIECE_SECONDS * self.sample_rate
        job = view.job
        if job.state == COMPLETED and job.result is not None:
            path = self._service.store.take_path(job, take)
            before = LENGTH + int(job.result["join"]) * self._frame
        else:
            heard = view.live.heard if view.live is not None else 0
            most = min(most, heard - start)
            path = self._service.store.attempt_folder(job) / f"preview-{take}.s16"
            before = 0
        if path is None or most <= 0:
            return b""
        return _read(path, before + start * self._frame, most * self._frame)


def _read(path: Path, start: int, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError:  # swept, or a new attempt
        return b""


def events(service: Service, job_id: str) -> StreamingResponse:
    """`format`, then `audio` and `progress` as they come, then `done`; or a 429."""

    async def sent() -> AsyncIterator[bytes]:
        view = service.jobs.view(job_id)
        if view is None:
            return
        sound = _Sound(service, view.job)
        yield _event(
            "format",
            {
                "sample_rate": sound.sample_rate,
                "channels": sound.channels,
                "takes": sound.takes,
                "join_seconds": sound.join_seconds,
            },
        )
        places = dict.fromkeys(range(1, sound.takes + 1), 0)
        told: dict[str, Any] = {}
        while not service.stopping.is_set() and view is not None:
            news = _progress(view)
            if news != told:
                told = news
                yield _event("progress", news)
            some = False
            for take, start in places.items():
                pcm = await asyncio.to_thread(sound.read, view, take, start)
                if pcm:
                    some = True
                    places[take] += len(pcm) // (2 * sound.channels)
                    encoded = base64.b64encode(pcm).decode()
                    yield _event("audio", {"take": take, "start": start, "pcm": encoded})
            if not some:
                if view.job.finished is not None:
                    yield _event("done", _done(view))
                    return
                service.jobs.listen(job_id)
                if view.live is not None:
                    await view.live.news(_SECONDS_BETWEEN)
                else:
                    await asyncio.sleep(_SECONDS_BETWEEN)
                yield b":\n\n"  # finds out whether anybody is still there
            view = service.jobs.view(job_id)

    return _Stream(service, job_id, sent(), "text/event-stream")


def _progress(view: View) -> dict[str, Any]:
    return {
        "status": status_of(view),
        "progress": progress_of(view),
        "queue_status": queue_status(view),
    }


def _done(view: View) -> dict[str, Any]:
    done: dict[str, Any] = {"status": status_of(view)}
    if view.job.error is not None:
        done["error"] = view.job.error
    return done


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def wav(service: Service, job_id: str) -> StreamingResponse:
    """The continuation of the first take; or a 429."""

    async def sent() -> AsyncIterator[bytes]:
        view = service.jobs.view(job_id)
        if view is None:
            return
        sound = _Sound(service, view.job)
        yield wav_header(sound.sample_rate, sound.channels)
        start = 0
        while not service.stopping.is_set() and view is not None:
            pcm = await asyncio.to_thread(sound.read, view, 1, start)
            if pcm:
                start += len(pcm) // (2 * sound.channels)
                yield pcm
            elif view.job.finished is not None:
                return
            else:
                service.jobs.listen(job_id)
                if view.live is not None:
                    await view.live.news(_SECONDS_BETWEEN)
                else:
                    await asyncio.sleep(_SECONDS_BETWEEN)
            view = service.jobs.view(job_id)

    return _Stream(service, job_id, sent(), "audio/wav")
