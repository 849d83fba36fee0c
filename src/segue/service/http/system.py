"""Routes for the owner of a service: `/health`, `/ready`, `/metrics`, `/docs`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ..exceptions import RefusalError
from ..service import Service, client_of, service_of
from .docs_page import docs_page
from .schemas.responses import Health, refusals

router = APIRouter()


UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: {"model": Health}}


@router.get(
    "/health", response_model=Health, responses={**UNAVAILABLE, **refusals()}, tags=["service"]
)
async def health(request: Request, response: Response) -> Any:
    """Whether the service can generate: `live`, or `unhealthy` and why.

    For probes of liveness: 503 only where nothing but a new start helps, else 200.
    """
    service = service_of(request)
    if not (service.jobs.alive or service.stopping.is_set()):
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return await _state(service)


@router.get(
    "/ready", response_model=Health, responses={**UNAVAILABLE, **refusals()}, tags=["service"]
)
async def ready(request: Request, response: Response) -> Any:
    """Whether the service takes jobs and plays them: 200, or 503 and why; else as `/health`.

    For probes of readiness and balancers.  A full queue is ready: those who wait want to poll.
    """
    state = await _state(service_of(request))
    if state["status"] != "live":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return state


async def _state(service: Service) -> dict[str, Any]:
    """What `Health` holds."""
    problems = []
    if service.stopping.is_set():
        problems.append("the service stops; ask again when it has been started")
    elif not service.jobs.alive:
        problems.append("the queue has stopped; start segue serve again")
    if service.jobs.database_gone:
        problems.append("the database cannot be reached; what plays goes on")
    if service.store.results is not None and service.store.results.gone:
        problems.append("the store of results cannot be reached; what plays goes on")
    if not await asyncio.to_thread(service.store.writable):
        problems.append(f"{service.store.folder} cannot be written to; look at the disk")
    if service.pool.cannot_start:
        problems.append(f"the player does not start: {service.pool.cannot_start}")
    return {
        "status": "unhealthy" if problems else "live",
        "service": "segue",
        "version": service.version,
        "message": "; ".join(problems) or "ready to play",
        "worker": "ready" if service.pool.alive else "starts with the next request",
        "waiting": service.jobs.queued(),
        "playing": bool(service.jobs.running),
    }


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **refusals()},
    tags=["service"],
)
async def metrics(request: Request) -> Response:
    """Counters, in Prometheus' text format; where clients are told apart, for admins."""
    service = service_of(request)
    if not client_of(request).admin:
        raise RefusalError(403, "this is for clients with admin = true")
    metrics_ = service.metrics
    metrics_.waiting.set(service.jobs.queued())
    metrics_.waits(service.jobs.limits.queued())
    metrics_.running.set(service.jobs.running)
    metrics_.rows.set(service.jobs.rows)
    metrics_.look_at(service.pool)
    metrics_.disk.set(service.store.bytes())
    return Response(metrics_.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The routes, for people."""
    return HTMLResponse(docs_page(request.app.openapi()))
