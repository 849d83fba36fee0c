"""The service's own routes, for the page and for anyone else; the same jobs underneath."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from ... import beats
from ...checkpoints.abilities import Abilities
from ...checkpoints.recipe import PRESETS
from ...model import ENGINES
from ..adapters import adapters_in
from ..exceptions import RefusalError
from ..jobs.play_on import place
from ..jobs.rows import Input, Job, Parent
from ..quantization import recipes_in
from ..service import client_of, service_of
from .job_state import done_job, input_of, job_of, not_known, present, state_of, view_of
from .prompts import prompts
from .schemas.native import MOST_PARTS, KeptAudio, NativeAudio, NativeParameters, NativeText
from .schemas.requests import LONGEST_PROMPT
from .schemas.responses import JOB_LINKS, JobStarted, JobState, refusals
from .streaming import events, wav
from .uploads import AUDIO, MELODY, documented

router = APIRouter()


@router.post(
    "/api/jobs",
    status_code=202,
    response_model=JobStarted,
    responses={202: JOB_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(NativeAudio),
    tags=["jobs"],
)
async def add_job(request: Request) -> Any:
    """Continue a slice of some audio; what lies before it stays, what lies behind it is cut.

    The audio is sent, or it is an input or a take that the service has.
    """
    service = service_of(request)
    with service.jobs.admission.reserve(client_of(request)) as room:
        files_of = service.uploads.files(request, NativeAudio, (), (AUDIO, MELODY))
        async with files_of as (fields, files):
            audio, parent = _source(request, fields.input, files.get(AUDIO))
            melody = files.get(MELODY)
            return _begun(
                await service.new_job("native", fields, audio, room, melody=melody, parent=parent)
            )


def _source(
    request: Request, kept: KeptAudio | None, sent: Path | None
) -> tuple[Path | Input | None, Parent | None]:
    """What is continued: a file that was sent, a kept input, or a take."""
    named = kept is not None and (kept.input_id is not None or kept.job is not None)
    if not named and sent is None:
        raise RefusalError(
            422, "there is no audio: audio_data is missing or empty, and no input is named"
        )
    if kept is None or not named:
        return sent, None
    if sent is not None or (kept.input_id is not None and kept.job is not None):
        raise RefusalError(422, "audio_data, an input_id and a job are three sources; send one")
    if kept.job is None:
        return input_of(request, kept.input_id or ""), None
    longest = service_of(request).settings.limits.audio_seconds
    number = 1 if kept.take is None else kept.take
    parent = place(job_of(request, kept.job), number, kept.until_seconds, longest)
    done_job(request, kept.job, number)
    return None, parent


@router.post(
    "/api/generate",
    status_code=202,
    response_model=JobStarted,
    responses={202: JOB_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(NativeText),
    tags=["jobs"],
)
async def generate(request: Request) -> Any:
    """Make music from a description, or from a melody, without a prompt."""
    service = service_of(request)
    with service.jobs.admission.reserve(client_of(request)) as room:
        files_of = service.uploads.files(request, NativeText, required=(), optional=(MELODY,))
        async with files_of as (fields, files):
            return _begun(
                await service.new_job("native", fields, None, room, melody=files.get(MELODY))
            )


@router.post(
    "/api/jobs/{job_id}/retry",
    status_code=202,
    response_model=JobStarted,
    responses={202: JOB_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(NativeParameters, required=False),
    tags=["jobs"],
)
async def retry_job(request: Request, job_id: str) -> Any:
    """Continue an earlier job's input; an absent parameter is as it was, but for the seed."""
    service = service_of(request)
    fields = await service.uploads.fields(request, NativeParameters)
    earlier = job_of(request, job_id)
    input_ = service.store.input(earlier.input)
    if input_ is None:
        raise not_known()
    with service.jobs.admission.reserve(client_of(request)) as room:
        return _begun(await service.new_job("native", fields, input_, room, earlier.spec))


def _begun(job: Job) -> dict[str, Any]:
    return {
        "success": True,
        "job_id": job.id,
        "session_id": job.id,
        "message": "the music is in the queue",
        "seed": job.spec.seed,
    }


@router.get("/api/jobs/{job_id}", response_model=JobState, responses=refusals(404), tags=["jobs"])
async def job_state(request: Request, job_id: str) -> Response:
    """How far a job is, and its result."""
    service = service_of(request)
    return JSONResponse(state_of(service, view_of(request, job_id)))


@router.get(
    "/api/jobs/{job_id}/takes/{number}.wav",
    response_class=FileResponse,
    responses={200: {"content": {"audio/wav": {}}}, 206: {}, 416: {}, **refusals(404, 409, 422)},
    tags=["jobs"],
)
async def take(request: Request, job_id: str, number: int) -> Response:
    """A take that is done; parts of it, too, by `Range`."""
    service = service_of(request)
    path = service.store.take_path(done_job(request, job_id, number), number)
    assert path is not None  # noqa: S101 - there is such a take
    await present(request, path)
    return FileResponse(path, media_type="audio/wav", filename=f"segue-{job_id[:8]}-{number}.wav")


@router.get(
    "/api/jobs/{job_id}/stream",
    responses={
        200: {"content": {"text/event-stream": {}, "audio/wav": {}}},
        **refusals(404, 422, 429),
    },
    tags=["jobs"],
)
async def stream(
    request: Request,
    job_id: str,
    format_: Annotated[Literal["events", "wav"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """The continuation while it is generated, from its start: events, or the first take as WAV."""
    service = service_of(request)
    job = job_of(request, job_id)
    if format_ == "wav" or (format_ is None and "audio/wav" in accept):
        return wav(service, job)
    return events(service, job)


@router.get("/api/service", responses=refusals(), tags=["service"])
async def service_state(request: Request) -> dict[str, Any]:
    """What the service runs, and what a request may name."""
    service, client = service_of(request), client_of(request)
    settings, limits = service.settings, service.settings.limits
    listed = await asyncio.to_thread(service.models.all)
    default = settings.quantization
    recipes = await asyncio.to_thread(recipes_in, settings.recipes_folder)
    adapters = await asyncio.to_thread(adapters_in, settings.adapters_folder)
    takes = await asyncio.to_thread(
        lambda: [(model.abilities or Abilities()).takes for model in listed]
    )
    return {
        "success": True,
        "version": service.version,
        "engine": service.jobs.ran.get("engine", settings.engine),
        "engines": list(ENGINES),
        "device": service.jobs.ran.get("device"),
        "default_model": settings.default_model,
        "quantization": {
            "enabled": default.recipe is not None,
            "default_mode": default.mode,
            "modes": [*PRESETS, *recipes],
        },
        "limits": {
            "body_bytes": limits.body_bytes,
            "audio_seconds": limits.audio_seconds,
            "min_sample_rate": limits.min_sample_rate,
            "max_sample_rate": limits.max_sample_rate,
            "max_channels": limits.max_channels,
            "prompt_seconds": LONGEST_PROMPT,
            "output_seconds": limits.output_seconds,
            "variations": limits.variations,
            "description": limits.description,
            "adapters": limits.adapters,
            "waiting": limits.waiting,
            "keep_seconds": settings.keep_seconds,
            "undo_seconds": limits.undo_seconds,
            "parts": MOST_PARTS,
            "disk_bytes": settings.max_disk_bytes,
        },
        "client": None if service.clients is None else service.jobs.limits.of_client(client),
        "kept": {
            "bytes": service.store.bytes(),
            "starred_bytes": service.store.kept.starred_bytes(),
        },
        "prompts": prompts(),
        "adapters": list(adapters),
        "beats": beats.available(),
        "models": [
            {
                "name": model.name,
                "path": model.path,
                "downloaded": not model.missing,
                "size_class": model.size,
                "bytes": model.bytes,
                "description": model.description,
                "takes": list(taken),
            }
            for model, taken in zip(listed, takes, strict=True)
        ],
    }
