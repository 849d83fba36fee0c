"""Downloads of models: how large they will be, all of them, pausing; the plugin begins them."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ..exceptions import RefusalError, TaskError
from ..jobs.progress import DownloadProgress
from ..jobs.rows import CANCELLED, COMPLETED, FAILED, PAUSED, RUNNING, Download
from ..service import Service, service_of
from .schemas.requests import MAX_NAME
from .schemas.responses import DownloadList, DownloadSize, Predownload, refusals
from .views import SOURCE, downloading

router = APIRouter()

_ENDED = {COMPLETED: "done", PAUSED: "paused", FAILED: "failed", CANCELLED: "cancelled"}


@router.get(
    "/api/models/size",
    response_model=DownloadSize,
    responses=refusals(404, 422),
    tags=["models"],
)
async def download_size(
    request: Request, model_name: Annotated[str, Query(max_length=MAX_NAME)]
) -> Any:
    """Ask the hub how large the download of a model will be; nothing of one that is here."""
    service = service_of(request)
    model = await asyncio.to_thread(service.models.find, model_name)
    try:
        found = await service.downloads.size(model)
    except TaskError as error:
        raise RefusalError(422, str(error)) from None
    repositories = found["repositories"]
    return {
        "success": True,
        "model_name": model.path,
        "bytes": sum(each["bytes"] for each in repositories),
        "missing_bytes": sum(each["missing_bytes"] for each in repositories),
        **found,
    }


@router.get(
    "/api/models/downloads", response_model=DownloadList, responses=refusals(), tags=["models"]
)
async def downloads(request: Request) -> Response:
    """The downloads that run or are paused, then those that ended lately, newest first."""
    service = service_of(request)
    listed = [download_state(service, each) for each in service.store.downloads.all()]
    return JSONResponse({"success": True, "downloads": listed})


@router.post(
    "/api/models/predownload/{session_id}/pause",
    response_model=Predownload,
    responses=refusals(404, 409, 422),
    tags=["models"],
)
async def pause_predownload(request: Request, session_id: str) -> Response:
    """Stop a download for now, over a restart too; what has arrived stays."""
    service = service_of(request)
    if not await service.downloads.pause(download_of(service, session_id)):
        raise RefusalError(409, "this download does not run")
    return JSONResponse(download_state(service, download_of(service, session_id)))


@router.post(
    "/api/models/predownload/{session_id}/resume",
    response_model=Predownload,
    responses=refusals(404, 409, 422),
    tags=["models"],
)
async def resume_predownload(request: Request, session_id: str) -> Response:
    """Go on with a download that is paused, from where it stopped."""
    service = service_of(request)
    download = download_of(service, session_id)
    model = await asyncio.to_thread(service.models.find, download.model)
    if not await service.downloads.go_on(download, model):
        raise RefusalError(409, "this download is not paused")
    return JSONResponse(download_state(service, download_of(service, session_id)))


def download_of(service: Service, name: str) -> Download:
    """The download of an id.

    Raises:
        RefusalError: there is none.
    """
    download = service.store.downloads.get(name)
    if download is None:
        raise RefusalError(404, "this download is not known any more")
    return download


def download_state(service: Service, download: Download) -> dict[str, Any]:
    """How far a download is."""
    progress = service.downloads.progress_of(download)
    said = download.error or _ENDED.get(download.state, "")
    answer: dict[str, Any] = {
        "success": True,  # or gary4local shows a line of its own and not the reason
        "session_id": download.id,
        "model_name": download.model,
        "status": FAILED if download.state == CANCELLED else download.state,
        "progress": 100 if download.state == COMPLETED else 0,
        "queue_status": {"status": download.state, "message": said},
    }
    if download.state == RUNNING:
        answer["status"] = "warming"
        progress = progress or DownloadProgress(download.model)
        answer["progress"] = min(99, math.floor(progress.percent))
        answer["queue_status"] = {
            "position": 0,
            "total_queued": 0,
            "source": SOURCE,
            **downloading(progress),
        }
    if download.error is not None:
        answer["error"] = download.error
    return answer
