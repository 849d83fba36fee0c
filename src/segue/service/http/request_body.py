"""The body of a request: limits on its size and on how long it takes to arrive."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from ..exceptions import RefusalError
from ..settings import Limits


def patience(limits: Limits, grace: float, received: int) -> float:
    """Seconds to wait in all for a client that has sent so much: no total alone would do.

    One that is short enough for those who send a byte a second cuts off who has a slow network.

    Args:
        limits: of the service.
        grace: seconds for those who have sent nothing yet.
        received: bytes so far.
    """
    return min(limits.body_seconds, grace + received / limits.body_bytes_per_second)


class RequestBody:
    """The `receive` of one request, bounded in bytes and seconds.

    What is unread when a response begins is read by `drain`: a client that is still sending
    reads no response, and one that is cut off while it sends may lose one that has arrived.

    Args:
        scope, receive: of ASGI.
        most: bytes that may be read.
        limits: of the service.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int, limits: Limits) -> None:
        headers = Headers(scope=scope)
        self._receive, self._most, self._limits = receive, most, limits
        announced = headers.get("content-length", "")
        is_number = announced.isascii() and announced.isdigit()
        self._announced = int(announced[:20]) if is_number else None
        self._waits_for_continue = headers.get("expect", "").lower() == "100-continue"
        self._received = 0
        self._waited = 0.0
        self._whole = not announced.strip("0") and "transfer-encoding" not in headers
        self._requested = self._given_up = False

    async def __call__(self) -> Message:
        """See ASGI.

        Raises:
            RefusalError: the body is too large, or takes too long.
        """
        if self._whole:  # who listens now waits for the client to go, and may wait long
            return await self._receive()
        if self._announced is not None and self._announced > self._most:
            raise self._too_large()
        try:
            message = await self._next(self._limits.body_seconds)
        except TimeoutError:
            self._given_up = True
            line = "the request took too long to arrive; try again"
            raise RefusalError(408, line) from None
        if self._received > self._most:
            raise self._too_large()
        return message

    async def drain(self) -> bool:
        """Read and discard what is left; whether nothing is left.

        It reads no longer than `drain_seconds`, and not beyond `drain_bytes`.  A client that
        waits for `100 Continue` before it sends is not told to.
        """
        most = self._received + self._limits.drain_bytes
        waits = self._waits_for_continue and not self._requested
        if waits or self._given_up or (self._announced or 0) > most:
            return self._whole
        until = self._waited + self._limits.drain_seconds
        try:
            while not self._whole and self._received <= most:
                await self._next(until)
        except TimeoutError:
            self._given_up = True
        return self._whole

    async def _next(self, until: float) -> Message:
        """The next message; only what is waited for the client counts, not what others took."""
        limits = self._limits
        until = min(until, patience(limits, limits.body_grace_seconds, self._received))
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._requested = True
        try:
            async with asyncio.timeout(until - self._waited):
                message = await self._receive()
        finally:
            self._waited += loop.time() - began
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> RefusalError:
        mb = self._most >> 20
        line = f"the request is larger than the {mb} MB that are taken; send less audio"
        return RefusalError(413, line)
