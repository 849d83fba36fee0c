"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp

from .http import downloads, inputs, kept, native, pages, plugin, prompts, system, takes
from .http.errors import add_handlers
from .http.middleware import ServiceMiddleware
from .jobs.store import Store
from .service import Service
from .settings import Settings
from .workers.pool import Pool

_DESCRIPTION = (
    "Continues a piece of music. A request that cannot be done is answered with a 4xx and "
    "{success: false, error}, where error is one line for people."
)


def make_app(settings: Settings, store: Store, pool: Pool | None = None) -> tuple[ASGIApp, Service]:
    """Make the application, with its middleware, and the service behind it.

    Args:
        settings: of the service.
        store: opened; it is closed when the application ends.
        pool: see `Service`.
    """
    service = Service(settings, store, pool)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="segue",
        version=version("segue"),
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    add_handlers(app)
    for module in (plugin, native, takes, kept, inputs, downloads, prompts, system, pages):
        app.include_router(module.router)
    pages.mount_files(app)
    return ServiceMiddleware(app, settings, service.metrics, service.clients), service
