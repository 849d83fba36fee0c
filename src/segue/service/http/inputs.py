"""Inputs: audio that is sent once, for several jobs, or that came with one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response

from ..service import client_of, service_of
from .job_state import described_input, input_of, present
from .schemas.native import NewInput
from .schemas.responses import INPUT_LINKS, Beats, InputSaid, refusals
from .uploads import documented

router = APIRouter()


@router.post(
    "/api/inputs",
    status_code=201,
    response_model=InputSaid,
    responses={201: INPUT_LINKS, **refusals(408, 413, 415, 422, 429)},
    openapi_extra=documented(NewInput),
    tags=["inputs"],
)
async def add_input(request: Request) -> Any:
    """Send audio for jobs to come; it is kept as long as a job is."""
    service = service_of(request)
    client = client_of(request)
    service.jobs.limits.check_upload(client)
    async with service.uploads.audio(request, NewInput) as (fields, audio):
        input_, notes = await service.keep_input(audio, fields.file_name, client)
    return {"success": True, **described_input(input_), "notes": list(notes)}


@router.get(
    "/api/inputs/{input_id}", response_model=InputSaid, responses=refusals(404), tags=["inputs"]
)
async def input_state(request: Request, input_id: str) -> Any:
    """Audio that the service has."""
    return {"success": True, **described_input(input_of(request, input_id))}


@router.get(
    "/api/inputs/{input_id}/audio",
    response_class=FileResponse,
    responses={200: {"content": {"audio/wav": {}}}, 206: {}, 416: {}, **refusals(404)},
    tags=["inputs"],
)
async def input_audio(request: Request, input_id: str) -> Response:
    """Its samples as they were decoded; parts of it, too, by `Range`."""
    service = service_of(request)
    input_ = input_of(request, input_id)
    path = await present(request, service.store.input_path(input_.id))
    name = f"{(input_.name or 'input').rpartition('.')[0] or input_.name or 'input'}.wav"
    return FileResponse(path, media_type="audio/wav", filename=name)


@router.get(
    "/api/inputs/{input_id}/beats",
    response_model=Beats,
    responses=refusals(404, 422),
    tags=["inputs"],
)
async def input_beats(
    request: Request,
    input_id: str,
    prompt_from: Literal["start", "end"] = "start",
    beats_per_bar: Annotated[int | None, Query(ge=2, le=12)] = None,
) -> Any:
    """Find its tempo, metre, downbeat and beats, in its first minute or its last one."""
    service = service_of(request)
    input_ = input_of(request, input_id)
    end = None if prompt_from == "end" else 60.0
    with service.store.holding(input_.id):
        found = await service.tempo.find(input_, end, beats_per_bar)
    return {"success": True, **found, "downbeat_seconds": found["downbeat"]}
