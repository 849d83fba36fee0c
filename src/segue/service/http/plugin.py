"""The plugin's routes: what gary4juce and gary4local send, and what they read of the responses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ..exceptions import RefusalError
from ..jobs.models import grouped
from ..jobs.rows import COMPLETED, WAITING, Job
from ..jobs.waiting import View
from ..service import Service, client_of, service_of
from .base64_response import Base64Response
from .downloads import download_of, download_state
from .schemas.requests import MAX_NAME, ModelName, PluginAudio, PluginRetry
from .schemas.responses import (
    DOWNLOAD_LINKS,
    SESSION_LINKS,
    DownloadStates,
    ModelList,
    Poll,
    Predownload,
    PredownloadStarted,
    Said,
    SessionStarted,
    refusals,
)
from .uploads import documented
from .views import plugin_status, progress_of, quantization_of, queue_status

router = APIRouter()


@router.post(
    "/api/juce/process_audio",
    response_model=SessionStarted,
    responses={200: SESSION_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(PluginAudio),
    tags=["plugin"],
)
async def process_audio(request: Request) -> Any:
    """Continue the first seconds of some audio to 30 s, the prompt included."""
    return await _begin(request, "process")


@router.post(
    "/api/juce/continue_music",
    response_model=SessionStarted,
    responses={200: SESSION_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(PluginAudio),
    tags=["plugin"],
)
async def continue_music(request: Request) -> Any:
    """Continue the last seconds of some audio; everything before them stays."""
    return await _begin(request, "continue")


async def _begin(request: Request, kind: str) -> Any:
    service = service_of(request)
    with service.jobs.admission.reserve(client_of(request)) as room:
        async with service.uploads.audio(request, PluginAudio) as (fields, audio):
            return _begun(await service.new_job(kind, fields, audio, room))


def _begun(job: Job) -> dict[str, Any]:
    return {
        "success": True,
        "session_id": job.id,
        "message": "the music is in the queue",
        "seed": job.spec.seed,
    }


@router.post(
    "/api/juce/retry_music",
    response_model=SessionStarted,
    responses={200: SESSION_LINKS, **refusals(404, 408, 413, 415, 422, 429)},
    openapi_extra=documented(PluginRetry),
    tags=["plugin"],
)
async def retry_music(request: Request) -> Any:
    """Continue an earlier session's input again, with other parameters."""
    service = service_of(request)
    fields = await service.uploads.fields(request, PluginRetry)
    earlier = service.store.job(fields.session_id)
    if earlier is not None and not client_of(request).sees(earlier.client):
        earlier = None
    input_ = None if earlier is None else service.store.input(earlier.input)
    if earlier is None or input_ is None:
        raise RefusalError(404, "this session is not known any more; send the audio again")
    spec = earlier.spec
    with service.jobs.admission.reserve(client_of(request)) as room:
        return _begun(await service.new_job(spec.kind, fields, input_, room, spec))


@router.get(
    "/api/juce/poll_status/{session_id}",
    response_model=Poll,
    responses=refusals(),
    tags=["plugin"],
)
async def poll_status(request: Request, session_id: str) -> Response:
    """How far a session is, and its audio when it is done.

    `success` is whether the session's state is known, not whether the job succeeded: the plugin
    waits for ever on `success: false` with an error in which the word "download" occurs, say.
    """
    service = service_of(request)
    view = service.jobs.view(session_id)
    if view is None or not client_of(request).sees(view.job.client):
        return JSONResponse(_unknown())
    answer = _poll(service, view)
    if view.job.state == COMPLETED:
        path = service.store.take_path(view.job, 1)
        assert path is not None  # noqa: S101 - a completed job has a take
        await asyncio.to_thread(service.store.present, path)
        try:
            return Base64Response(answer, "audio_data", path)
        except OSError:  # swept between the two
            return JSONResponse(_unknown())
    return JSONResponse(answer)


def _unknown() -> dict[str, Any]:
    return {
        "success": True,
        "status": "unknown",
        "progress": 0,
        "generation_in_progress": False,
        "transform_in_progress": False,
        "generation_seed": None,
        "queue_status": {},
        "error": "this session is not known any more; send the audio again",
    }


def _poll(service: Service, view: View) -> dict[str, Any]:
    job = view.job
    status = plugin_status(view)
    answer = {
        "success": True,
        "status": status,
        "progress": progress_of(view),
        "generation_in_progress": job.state in WAITING,
        "transform_in_progress": False,
        "generation_seed": str(job.spec.seed),
        "queue_status": queue_status(view),
        "model_name": job.spec.model,
        "quantization_mode": quantization_of(view),
    }
    if job.error is not None:
        answer["error"] = job.error
    return answer


# --- Models -------------------------------------------------------------------------------------


@router.get(
    "/api/models", response_model=ModelList, responses=refusals(), tags=["plugin", "models"]
)
async def models(request: Request) -> Any:
    """The models that a request may name."""
    listed = await asyncio.to_thread(service_of(request).models.all)
    return {"success": True, "models": grouped(listed), "updated_at": _now()}


@router.get(
    "/api/models/download_status",
    response_model=DownloadStates,
    responses=refusals(404, 422),
    tags=["plugin", "models"],
)
async def download_status(
    request: Request, model_name: Annotated[str | None, Query(max_length=MAX_NAME)] = None
) -> Any:
    """Which models are on this machine, and what of the others is missing."""
    list_ = service_of(request).models
    if model_name:
        listed = [await asyncio.to_thread(list_.find, model_name)]
    else:
        listed = await asyncio.to_thread(list_.all)
    states = {
        model.path: {"downloaded": not model.missing, "missing": list(model.missing)}
        for model in listed
    }
    return {"success": True, "models": states, "updated_at": _now()}


@router.post(
    "/api/models/predownload",
    response_model=PredownloadStarted,
    responses={200: DOWNLOAD_LINKS, **refusals(404, 408, 413, 415, 422)},
    openapi_extra=documented(ModelName),
    tags=["plugin", "models"],
)
async def predownload(request: Request) -> Any:
    """Download a model ahead of time; resumes where an earlier download stopped."""
    service = service_of(request)
    fields = await service.uploads.fields(request, ModelName)
    model = await asyncio.to_thread(service.models.find, fields.model_name)
    download = await service.downloads.ahead(model)
    complete = not model.missing
    return {
        "success": True,
        "session_id": download.id,
        "model_name": model.path,
        "message": "the model is here already" if complete else "the download has begun",
    }


@router.get(
    "/api/models/predownload_status/{session_id}",
    response_model=Predownload,
    responses=refusals(404),
    tags=["plugin", "models"],
)
async def predownload_status(request: Request, session_id: str) -> Any:
    """How far a download is."""
    service = service_of(request)
    return JSONResponse(download_state(service, download_of(service, session_id)))


@router.delete(
    "/api/models/predownload/{session_id}",
    response_model=Said,
    responses=refusals(404, 409),
    tags=["models"],
)
async def cancel_predownload(request: Request, session_id: str) -> Any:
    """Stop a download; what has arrived is kept for the next time."""
    service = service_of(request)
    if not await service.downloads.cancel(download_of(service, session_id)):
        raise RefusalError(409, "this download is over already")
    return {"success": True, "message": "the download was cancelled"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
