"""HTTP, with an end to how long a client may take to say what it wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS_TO_ASK = 20.0
"""From the connection, or a request's first byte, to the end of the request's head."""

_LINE = "the request took too long to arrive; try again"


class ImpatientProtocol(H11Protocol):
    """Ends connections that send the head of a request drop by drop, or none at all.

    What comes behind the head has a limit of its own, see `segue.service.guard`.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(SECONDS_TO_ASK, self._give_up)

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.trailing_data[
            0
        ]:  # who has said nothing may only have wanted to be quick later
            self.transport.write(_answer({"success": False, "error": _LINE}))
        self.transport.close()


def _answer(content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = (
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
