"""HTTP with a limit on how long a client may let the service wait, and responses that arrive.

What is behind the head of a request has limits of its own, see `segue.service.http.request_body`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..settings import Limits
from .middleware import HEADERS
from .request_body import patience

_LATE = "the request took too long to arrive; try again"
_CUT = "the request did not arrive whole; try again"
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}


class BoundedProtocol(H11Protocol):
    """Ends connections whose clients send too slowly, or do not read; see `Limits`.

    A connection that is closed while its client still sends is reset by the system, and an answer
    that is on its way is lost.  So it is closed in the direction of the client first, and what
    comes is discarded, until the client closes it too or its time is up.

    Attributes:
        limits: of the service.
        closed: whether nothing more will be sent.
    """

    limits = Limits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._connection: asyncio.Transport | None = None
        self._stopping = self.closed = False
        self._closed_at = 0.0
        self._discarded = 0

    # --- Of asyncio -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        self._connection = transport
        super().connection_made(_Closing(transport, self))
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.closed:
            self._discard(len(data))
        elif self.conn.their_state not in (h11.MUST_CLOSE, h11.CLOSED):
            super().data_received(data)
            self._watch_head()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`; what is written here still arrives."""
        if not self.closed and self._request_is_incomplete():
            self._refuse(400, _CUT)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: more is to be sent than the client has read."""
        super().pause_writing()
        self._start("unread", self.limits.send_seconds, self._abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._stop("unread")
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        for timer in self._timers.values():
            timer.cancel()
        self._connection = None
        super().connection_lost(exc)

    # --- Of uvicorn -----------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 cannot read; called while its error is handled."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        reason = str(error or msg)
        line = f"the request is not valid HTTP: {reason[:1].lower()}{reason[1:]}"
        self._refuse(status if status in _PHRASES else 400, line)

    def shutdown(self) -> None:
        """End what is not being answered."""
        self._stopping = True
        if self.closed:
            self._abort()
        else:
            super().shutdown()

    # --- Limits ---------------------------------------------------------------------------------

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop("head")
        elif "head" not in self._timers:
            self._start("head", self.limits.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._stop("head")
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self._request_is_incomplete():
            self._refuse(408, _LATE)
        else:  # a client that has sent nothing may only have wanted to be quick later
            self.transport.close()

    def _request_is_incomplete(self) -> bool:
        """Whether a request has begun and has not ended."""
        if self.conn.their_state is h11.IDLE:
            return bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY

    def _refuse(self, status: int, line: str) -> None:
        """Refuse a request that does not become complete, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            # A route that waits for the rest of the body finds that there is none.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._abort()
                return
        self.transport.write(_answer(status, line))
        self.transport.close()

    def close(self) -> None:
        """Send what is to be sent, and close: at once if the client has sent all of its request."""
        if self.closed or self._connection is None:
            return
        self.closed = True
        self._stop("head")
        complete = self.conn.their_state in (h11.IDLE, h11.DONE) and not self.conn.trailing_data[0]
        if complete or self._stopping:
            self._start("end", self.limits.send_seconds, self._abort)
            self._connection.close()
            return
        self._closed_at = self.loop.time()
        self._start("end", self.limits.linger_seconds, self._end_lingering)
        try:
            self._connection.write_eof()
        except OSError:  # the client is gone
            self._abort()
        else:
            self._connection.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > self.limits.drain_bytes:
            self._abort()

    def _end_lingering(self) -> None:
        """End a connection, unless its client sends so much that it has more time."""
        allowed = patience(self.limits, self.limits.linger_seconds, self._discarded)
        left = self._closed_at + allowed - self.loop.time()
        if left > 0:
            self._start("end", left, self._end_lingering)
        else:
            self._abort()

    def _start(self, timer: str, seconds: float, then: Callable[[], None]) -> None:
        self._stop(timer)
        self._timers[timer] = self.loop.call_later(seconds, then)

    def _stop(self, timer: str) -> None:
        if timer in self._timers:
            self._timers.pop(timer).cancel()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()


def bounded_protocol(limits: Limits) -> type[BoundedProtocol]:
    """The protocol with other limits, as uvicorn wants it: a class."""
    settled = limits

    class Settled(BoundedProtocol):
        limits = settled

    return Settled


class _Closing(asyncio.Transport):
    """A connection whose end is its protocol's business.

    Args:
        connection: what everything else is done by.
        protocol: of it.
    """

    def __init__(self, connection: asyncio.Transport, protocol: BoundedProtocol) -> None:
        super().__init__()
        self._connection, self._protocol = connection, protocol

    def close(self) -> None:
        self._protocol.close()

    def is_closing(self) -> bool:
        return self._protocol.closed or self._connection.is_closing()

    def write(self, data: Any) -> None:
        self._connection.write(data)

    def pause_reading(self) -> None:
        if not self._protocol.closed:
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._connection.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection.get_extra_info(name, default)


def _answer(status: int, line: str) -> bytes:
    body = json.dumps({"success": False, "error": line}).encode()
    headers = {
        **HEADERS,
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{head}\r\n".encode() + body
