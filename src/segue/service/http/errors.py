"""Exception handlers: every error becomes `{success: false, error}` and a status that fits.

They know every exception of the service; only the app and its middleware know them.
"""

from __future__ import annotations

import errno
import logging
import math
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ...errors import SegueError
from ..exceptions import BusyError, OverLimitError, RefusalError, TaskError, UnknownModelError
from ..jobs.database import DatabaseError
from ..jobs.results import ResultsGoneError

log = logging.getLogger("segue.service")

FAULT = "something went wrong inside segue; its log says more"


def refusal(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that cannot be done."""
    return JSONResponse({"success": False, "error": line}, status, headers)


def _allowed(request: Request) -> set[str]:
    """The methods that an address takes."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _is_full(error: Exception) -> bool:
    """Whether there is no room: on the disk, or within a quota of it."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # The low byte of SQLite's code says what failed; the rest says where.
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def add_handlers(app: FastAPI) -> None:
    """Let every error of `app` be answered in one shape."""

    @app.exception_handler(RefusalError)
    def refused(request: Request, error: RefusalError) -> Response:
        return refusal(error.status, error.line, error.headers)

    @app.exception_handler(BusyError)
    def busy(request: Request, error: BusyError) -> Response:
        after = str(max(1, min(600, math.ceil(error.seconds))))
        return refusal(429, str(error), {"Retry-After": after})

    @app.exception_handler(OverLimitError)
    def over_limit(request: Request, error: OverLimitError) -> Response:
        return refusal(429, str(error), {"Retry-After": str(max(1, math.ceil(error.seconds)))})

    @app.exception_handler(UnknownModelError)
    def unknown(request: Request, error: UnknownModelError) -> Response:
        return refusal(404, str(error))

    @app.exception_handler(SegueError)
    def bad_input(request: Request, error: SegueError) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(TaskError)
    def failed(request: Request, error: TaskError) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        lines = {
            404: "there is nothing at this address",
            405: f"this address does not take {request.method}",
        }
        line = lines.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette's names one route of the address; there may be two
            headers["Allow"] = ", ".join(sorted(_allowed(request)))
        return refusal(error.status_code, line, headers)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    def disk(request: Request, error: Exception) -> Response:
        log.error("disk", exc_info=error, extra={"path": request.url.path})
        if _is_full(error):
            return refusal(507, "the disk of this computer is full; make room and try again")
        return refusal(500, "segue cannot use its folder on the disk; its log says more")

    @app.exception_handler(ResultsGoneError)
    def results(request: Request, error: ResultsGoneError) -> Response:
        log.error("results", exc_info=error, extra={"path": request.url.path})
        line = "segue cannot reach the store of its music; try again in a while"
        return refusal(503, line, {"Retry-After": "5"})

    @app.exception_handler(DatabaseError)
    def database(request: Request, error: DatabaseError) -> Response:
        log.error("database", exc_info=error, extra={"path": request.url.path})
        line = "segue cannot reach its database; try again in a while"
        return refusal(503, line, {"Retry-After": "5"})

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> Response:
        log.error("fault", exc_info=error, extra={"path": request.url.path})
        return refusal(500, FAULT)
