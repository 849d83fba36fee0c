"""The HTTP server: uvicorn, set up for one service."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from ..service import Service
from .header_timeout import bounded_protocol

_SECONDS_TO_FINISH = 2
"""How long a response that is being sent may take after the service is stopped."""


def make_server(app: ASGIApp, service: Service) -> uvicorn.Server:
    """A server of `app`, to be run with sockets that listen.

    Args:
        app: of the service.
        service: whose limits hold, and whose streams end first when the server stops.
    """

    class Server(uvicorn.Server):
        """Ends streams first: they would be waited for."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.stopping.set()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            app,
            http=bounded_protocol(service.settings.limits),
            ws="none",  # another protocol would take the connection, and leave the limits behind
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
            h11_max_incomplete_event_size=1 << 16,
        )
    )
