"""Routes for the owner of a service: `/health`, `/metrics`, `/docs`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..exceptions import RefusalError
from ..service import client_of, service_of
from .docs_page import docs_page
from .schemas.responses import Health, refusals

router = APIRouter()


@router.get("/health", response_model=Health, responses=refusals(), tags=["service"])
async def health(request: Request) -> Any:
    """Whether the service can generate: `live`, or `unhealthy` and why."""
    service = service_of(request)
    problems = []
    if not service.jobs.alive:
        problems.append("the queue has stopped; start segue serve again")
    if service.jobs.database_gone:
        problems.append("the database cannot be reached; what plays goes on")
    if not await asyncio.to_thread(service.store.writable):
        problems.append(f"{service.store.folder} cannot be written to; look at the disk")
    if service.pool.cannot_start:
        problems.append(f"the player does not start: {service.pool.cannot_start}")
    ready = service.pool.alive > 0
    return {
        "status": "unhealthy" if problems else "live",
        "service": "segue",
        "version": service.version,
        "message": "; ".join(problems) or "ready to play",
        "worker": "ready" if ready else "starts with the next request",
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
    metrics_.running.set(service.jobs.running)
    metrics_.rows.set(service.jobs.rows)
    metrics_.look_at(service.pool)
    metrics_.disk.set(service.store.bytes())
    return Response(metrics_.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The routes, for people."""
    return HTMLResponse(docs_page(request.app.openapi()))
