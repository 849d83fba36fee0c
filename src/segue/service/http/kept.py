"""Kept jobs: pages of them, what people say of them, and removing with undo."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ..exceptions import RefusalError
from ..jobs.kept import WHOLE_JOB
from ..jobs.rows import WAITING
from ..service import client_of, service_of
from ..threads import run_to_end
from .job_state import any_job_of, done_job, job_of, not_known, state_of, view_of
from .schemas.native import Marks
from .schemas.responses import JobPage, JobState, Removed, refusals
from .uploads import documented

router = APIRouter()

_LARGEST = 2**63 - 1


@router.get("/api/jobs", response_model=JobPage, responses=refusals(422), tags=["kept"])
async def kept_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST)] = None,
    starred: bool = False,
    root: Annotated[str | None, Query(max_length=64)] = None,
    deleted: bool = False,
) -> Any:
    """A client's kept jobs, newest first: with a star, of one chain, or those just removed."""
    service = service_of(request)
    client = client_of(request)
    owner = None if client.admin else client.name
    page = service.store.kept.page(limit, before, starred, root, deleted, owner)
    views = [service.jobs.view(job.id) for job in page.jobs]
    return JSONResponse(
        {
            "success": True,
            "jobs": [state_of(service, view) for view in views if view is not None],
            "next": page.next,
            "total": page.total,
        }
    )


@router.patch(
    "/api/jobs/{job_id}",
    response_model=JobState,
    responses=refusals(404, 408, 413, 415, 422),
    openapi_extra=documented(Marks),
    tags=["kept"],
)
async def mark_job(request: Request, job_id: str) -> Any:
    """Give a job a name, a note or a star; with a star it is kept until it is removed."""
    service = service_of(request)
    fields = await service.uploads.fields(request, Marks)
    job = job_of(request, job_id)
    await run_to_end(service.store.kept.change, job.id, WHOLE_JOB, fields.changes())
    return JSONResponse(state_of(service, view_of(request, job_id)))


@router.patch(
    "/api/jobs/{job_id}/takes/{number}",
    response_model=JobState,
    responses=refusals(404, 408, 409, 413, 415, 422),
    openapi_extra=documented(Marks),
    tags=["kept"],
)
async def mark_take(request: Request, job_id: str, number: int) -> Any:
    """The same for one of its takes."""
    service = service_of(request)
    fields = await service.uploads.fields(request, Marks)
    job = done_job(request, job_id, number)
    await run_to_end(service.store.kept.change, job.id, number, fields.changes())
    return JSONResponse(state_of(service, view_of(request, job_id)))


@router.delete(
    "/api/jobs/{job_id}", response_model=Removed, responses=refusals(404, 409, 422), tags=["jobs"]
)
async def cancel_job(request: Request, job_id: str, remove: bool = False) -> Any:
    """Cancel a job, the plugin's sessions included; with `remove` it goes, done or not."""
    service = service_of(request)
    job = job_of(request, job_id)
    cancelled = await service.jobs.cancel(job)
    if not remove:
        if not cancelled:
            raise RefusalError(409, "this music is over already")
        return {"success": True, "message": "the music was cancelled"}
    now = service.store.job(job.id)
    if now is None:
        raise not_known()
    if now.state in WAITING:  # it is being completed at this moment
        raise RefusalError(409, "this music cannot be removed yet; try again")
    return await _removed(request, job_id, WHOLE_JOB)


@router.delete(
    "/api/jobs/{job_id}/takes/{number}",
    response_model=Removed,
    responses=refusals(404, 409, 422),
    tags=["kept"],
)
async def remove_take(request: Request, job_id: str, number: int) -> Any:
    """Remove a take; with its last one goes the job."""
    done_job(request, job_id, number)
    return await _removed(request, job_id, number)


async def _removed(request: Request, job_id: str, number: int) -> dict[str, Any]:
    service = service_of(request)
    job = job_of(request, job_id)
    when = await run_to_end(service.store.kept.remove, job, number)
    undo = service.settings.limits.undo_seconds
    return {"success": True, "message": "it was removed", "undo_until": when + undo}


@router.post(
    "/api/jobs/{job_id}/undelete",
    response_model=JobState,
    responses=refusals(404, 409, 422),
    tags=["kept"],
)
async def restore_job(request: Request, job_id: str) -> Any:
    """Restore a job that was removed."""
    return await _restored(request, job_id, WHOLE_JOB)


@router.post(
    "/api/jobs/{job_id}/takes/{number}/undelete",
    response_model=JobState,
    responses=refusals(404, 409, 422),
    tags=["kept"],
)
async def restore_take(request: Request, job_id: str, number: int) -> Any:
    """Restore a take that was removed, and its job with it."""
    return await _restored(request, job_id, number)


async def _restored(request: Request, job_id: str, number: int) -> Response:
    service, job = service_of(request), any_job_of(request, job_id)
    undo = service.settings.limits.undo_seconds
    restored = await run_to_end(service.store.kept.restore, job, number, undo)
    if restored is None:
        raise RefusalError(404, "it is too late: this was removed for good")
    if not restored:
        raise RefusalError(409, "this was not removed")
    return JSONResponse(state_of(service, view_of(request, job_id)))
