"""A take: as a file for people, and how far its beats lie from its grid."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from ...cuts import Cut
from ..exceptions import RefusalError
from ..exports import Format
from ..jobs.kept import NO_MARK
from ..jobs.play_on import grid_of
from ..service import service_of
from ..threads import run_to_end
from .job_state import done_job
from .schemas.responses import TakeBeats, refusals

router = APIRouter()


@router.get(
    "/api/jobs/{job_id}/takes/{number}/audio",
    response_class=FileResponse,
    responses={
        200: {"content": {"audio/wav": {}, "audio/flac": {}, "audio/mpeg": {}}},
        206: {},
        416: {},
        **refusals(404, 409, 422, 429),
    },
    tags=["jobs"],
)
async def take_file(
    request: Request,
    job_id: str,
    number: int,
    part: Cut = "whole",
    format: Format = "wav16",  # noqa: A002 - the query's name
) -> Response:
    """A take as a file: the whole, the new part or the loop, named and tagged after what it is."""
    service = service_of(request)
    job = done_job(request, job_id, number)
    made = await service.exports.file(job, number, part, format)
    return FileResponse(made.path, media_type=made.media_type, filename=made.name)


@router.get(
    "/api/jobs/{job_id}/takes/{number}/beats",
    response_model=TakeBeats,
    responses=refusals(404, 409, 422),
    tags=["jobs"],
)
async def take_beats(request: Request, job_id: str, number: int) -> Any:
    """Measure how far the beats of what is new lie from the grid; the job's state keeps it."""
    service = service_of(request)
    job = done_job(request, job_id, number)
    if grid_of(job.result or {}) is None:
        raise RefusalError(422, "this music has no tempo, and so no grid to lie off")
    known = service.store.kept.marks(job.id).get(number, NO_MARK).beats
    if known is None:
        known = await service.tempo.offsets(job, number)
        if known is not None:
            await run_to_end(service.store.kept.change, job.id, number, {"beats": known})
    return {"success": True, "beat_offsets": known}
