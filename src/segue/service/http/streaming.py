"""Music while it is generated: server-sent events, or a WAV whose end is not known yet.

First comes the preview that the worker writes; from the moment the job is done it is the take
itself, from the same sample on.  Nothing is kept for a client but its place in a file.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..jobs.rows import COMPLETED, Job
from ..jobs.waiting import View
from ..service import Service
from .views import join_seconds, progress_of, queue_status, status_of
from .wav_header import LENGTH, wav_header

_SECONDS_BETWEEN = 1.0
"""Between two looks, where nothing happens; and so long a client that is gone may go unnoticed."""

_PIECE_SECONDS = 2
"""Of audio in one event."""


class _Stream(StreamingResponse):
    """A response that is one of a job's streams, from its first byte until its client is gone."""

    def __init__(
        self, service: Service, job_id: str, content: AsyncIterator[bytes], media_type: str
    ) -> None:
        super().__init__(content, media_type=media_type)
        self._streams, self._job_id = service.streams, job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.one(self._job_id):
            await super().__call__(scope, receive, send)


class _Samples:
    """The continuation of a job, as 16-bit samples, as far as it is generated.

    Attributes:
        sample_rate, channels, takes, join_seconds: of it.
    """

    def __init__(self, service: Service, job: Job) -> None:
        self._service = service
        input_ = service.store.input(job.input)
        self.sample_rate = input_.sample_rate if input_ else 0
        self.channels = input_.channels if input_ else 0
        self.takes = job.spec.variations
        self.join_seconds = join_seconds(job, input_) or 0.0
        self.frame_bytes = 2 * self.channels

    def read(self, view: View, take: int, start: int) -> bytes:
        """Read a take from the sample `start` on, at most a piece."""
        most = _PIECE_SECONDS * self.sample_rate
        job = view.job
        if job.state == COMPLETED and job.result is not None:
            path = self._service.store.take_path(job, take)
            if path is not None:
                self._service.store.present(path)
            before = LENGTH + int(job.result["join"]) * self.frame_bytes
        else:
            frames = view.progress.preview_frames if view.progress is not None else 0
            most = min(most, frames - start)
            path = self._service.store.attempt_folder(job) / f"preview-{take}.s16"
            before = 0
        if path is None or most <= 0:
            return b""
        pcm = _read(path, before + start * self.frame_bytes, most * self.frame_bytes)
        # Of a file that another front writes, not everything may be here yet.
        return pcm[: len(pcm) - len(pcm) % self.frame_bytes]


def _read(path: Path, start: int, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError:  # swept, or a new attempt
        return b""


class _Piece(NamedTuple):
    """What there is at one moment: samples of a take, or none, where nothing is new."""

    view: View
    take: int
    start: int
    pcm: bytes


async def _pieces(
    service: Service, job_id: str, samples: _Samples, takes: Iterable[int]
) -> AsyncIterator[_Piece]:
    """Follow a job to its end, or until the service stops; the last piece has no samples."""
    starts = dict.fromkeys(takes, 0)
    while not service.stopping.is_set() and (view := service.jobs.view(job_id)) is not None:
        nothing_new = True
        for take, start in starts.items():
            if pcm := await asyncio.to_thread(samples.read, view, take, start):
                nothing_new = False
                starts[take] += len(pcm) // samples.frame_bytes
                yield _Piece(view, take, start, pcm)
        if nothing_new:
            yield _Piece(view, 0, 0, b"")
            if view.job.finished is not None:
                return
            service.jobs.request_preview(job_id)
            if view.progress is not None:
                await view.progress.wait(_SECONDS_BETWEEN)
            else:
                await asyncio.sleep(_SECONDS_BETWEEN)


def events(service: Service, job: Job) -> StreamingResponse:
    """`format`, then `audio` and `progress` as they come, then `done`; or a 429."""

    async def content() -> AsyncIterator[bytes]:
        samples = _Samples(service, job)
        format_ = {
            name: getattr(samples, name)
            for name in ("sample_rate", "channels", "takes", "join_seconds")
        }
        yield _event("format", format_)
        last: dict[str, Any] = {}
        takes = range(1, samples.takes + 1)
        async for view, take, start, pcm in _pieces(service, job.id, samples, takes):
            if (progress := _progress(view)) != last:
                last = progress
                yield _event("progress", progress)
            if pcm:
                encoded = base64.b64encode(pcm).decode()
                yield _event("audio", {"take": take, "start": start, "pcm": encoded})
            elif view.job.finished is not None:
                yield _event("done", _done(view))
            else:
                yield b":\n\n"  # finds out whether anybody is still there

    return _Stream(service, job.id, content(), "text/event-stream")


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


def wav(service: Service, job: Job) -> StreamingResponse:
    """The continuation of the first take; or a 429."""

    async def content() -> AsyncIterator[bytes]:
        samples = _Samples(service, job)
        yield wav_header(samples.sample_rate, samples.channels)
        async for piece in _pieces(service, job.id, samples, [1]):
            if piece.pcm:
                yield piece.pcm

    return _Stream(service, job.id, content(), "audio/wav")
