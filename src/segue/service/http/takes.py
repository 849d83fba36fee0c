"""A take: as a file for people, and how far its beats lie from its grid."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from ...cuts import Cut
from ..exceptions import RefusalError
from ..exports import Format
from ..jobs.rows import COMPLETED, Job
from ..service import Service, service_of
from .job_state import job_of
from .schemas.responses import refusals

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
    job = done_job(service, job_id, number)
    made = await service.exports.file(job, number, part, format)
    return FileResponse(made.path, media_type=made.media_type, filename=made.name)


def done_job(service: Service, name: str, number: int) -> Job:
    """The job of an id, which is done and has a take of that number.

    Raises:
        RefusalError: there is none, or it is not.
    """
    job = job_of(service, name)
    if job.state != COMPLETED:
        raise RefusalError(409, "this music is not done")
    path = service.store.take_path(job, number)
    if path is None or not path.is_file():
        raise RefusalError(404, f"there is no take {number}")
    return job
