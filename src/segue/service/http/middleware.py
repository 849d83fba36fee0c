"""What every request passes first: checks of host, origin, token and size; headers; metrics.

A page in a browser must not reach the service unless it is the service's own: not by its address
(`Origin`, `Sec-Fetch-Site`), and not by a name that was made to point here (`Host`).
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..clients import ANYONE, Client, Clients
from ..exceptions import RefusalError
from ..metrics import Metrics
from ..service import CLIENT
from ..settings import LOOPBACK, Settings
from .errors import refusal
from .request_body import RequestBody

log = logging.getLogger("segue.service")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_WITHOUT_TOKEN = ("/", "/health", "/ready")
"""Answered without a token: the page, which asks the user for it, and what probes ask."""

_UPLOADS = (
    *("/api/juce/process_audio", "/api/juce/continue_music"),
    *("/api/jobs", "/api/generate", "/api/inputs"),
)


class ServiceMiddleware:
    """The outermost ASGI layer of the service.

    Args:
        app: the layer below.
        settings: of the service.
        metrics: what is counted.
        clients: that are told apart; None where all are one.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, clients: Clients | None = None
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        streamed = False
        body = RequestBody(scope, receive, self._limit(scope), self._settings.limits)

        async def sent(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                streamed = headers.get("Content-Type", "").startswith("text/event-stream")
                if not await body.drain():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._answer(scope, body, sent)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(scope["method"], route, status, None if streamed else seconds)
            log.debug(
                "request",
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(1000 * seconds, 1),
                    **_named(scope.get(CLIENT)),
                },
            )

    async def _answer(self, scope: Scope, body: RequestBody, send: Send) -> None:
        try:
            scope[CLIENT] = self._admitted(scope, Headers(scope=scope))
            if scope["method"] in ("GET", "HEAD") and not await body.drain():
                # A stream listens for the client to go, and must not meet a body instead.
                raise RefusalError(413, "the request brings more than is taken; send no body")
        except RefusalError as error:
            await refusal(error.status, error.line, error.headers)(scope, body, send)
        else:
            await self._app(scope, body, send)

    def _limit(self, scope: Scope) -> int:
        limits = self._settings.limits
        return limits.body_bytes if scope["path"] in _UPLOADS else limits.small_body_bytes

    def _admitted(self, scope: Scope, headers: Headers) -> Client | None:
        """Who sends a request, which may be made; None where it needs no token.

        Raises:
            RefusalError: it may not.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own_name(hosts[0]):
            host, port = scope.get("server") or (None, self._settings.port)
            where = self._settings.address(port, host)
            raise RefusalError(403, f"this service answers to its own name only: open {where}")
        if not _same_site(scope, headers, hosts[0]):
            raise RefusalError(403, "requests from other web pages are refused")
        if scope["method"] in ("POST", "PUT", "PATCH") and _has_body(headers):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                line = "the request must be JSON, with Content-Type: application/json"
                raise RefusalError(415, line)
        return self._client(scope, headers)

    def _is_own_name(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        if name in LOOPBACK or name == self._settings.host.lower():
            return True
        # Reachable from elsewhere, it has names that it does not know; the token keeps others out.
        return not self._settings.on_loopback

    def _client(self, scope: Scope, headers: Headers) -> Client | None:
        if self._settings.token is None and self._clients is None:
            return ANYONE
        if scope["path"] in _WITHOUT_TOKEN or scope["path"].startswith("/web/"):
            return None
        sent = headers.get("authorization", "")
        scheme, _, given = sent.partition(" ")
        if not sent:
            raise _unauthorized(f"this service wants a token; {self._whose_token}")
        if scheme.lower() != "bearer" or not given.strip():
            raise _unauthorized("the token must be sent as 'Authorization: Bearer TOKEN'")
        # Headers are bytes that were read as Latin-1; a token may be any bytes of the environment.
        client = self._of_token(given.strip().encode("latin-1"))
        if client is None:
            line = f"the token is wrong; {self._whose_token}"
            raise _unauthorized(line, 'Bearer error="invalid_token"')
        return client

    def _of_token(self, token: bytes) -> Client | None:
        if self._clients is not None:
            return self._clients.of_token(token)
        right = os.fsencode(self._settings.token or "")
        return ANYONE if hmac.compare_digest(token, right) else None

    @property
    def _whose_token(self) -> str:
        if self._clients is not None:
            return "whoever runs the service gives you yours"
        return "it is what segue serve was started with"


def _named(client: Client | None) -> dict[str, str]:
    """What the log says of a client, where they are told apart."""
    return {"client": client.name} if client is not None and client.name else {}


def _unauthorized(line: str, challenge: str = "Bearer") -> RefusalError:
    return RefusalError(401, line, {"WWW-Authenticate": challenge})


def _host_name(host: str) -> str | None:
    """The name in a `Host` header, without port, brackets and last dot; None if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    name = (parts.hostname or "").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name or None


def _same_site(scope: Scope, headers: Headers, host: str) -> bool:
    """Whether a request comes from no web page, or from the service's own."""
    site = headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none") and not _is_visit(scope, headers):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    parts = urlsplit(origin) if origin.isascii() else None
    return parts is not None and parts.scheme in ("http", "https") and parts.netloc == host


def _is_visit(scope: Scope, headers: Headers) -> bool:
    """Whether a browser follows a link to the page."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
