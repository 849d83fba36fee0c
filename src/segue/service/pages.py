"""The page, and the modules it is made of: only what `segue.web` has."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import Response

from .. import web
from .errors import RefusalError

router = APIRouter(include_in_schema=False)

PAGE = "service.html"
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, PAGE)


@router.get("/web/{name}")
async def module(request: Request, name: str) -> Response:
    """One of its modules."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    kind = _KINDS.get(name[name.rfind(".") :])
    if kind is None or name not in _names():
        raise RefusalError(404, "there is nothing at this address")
    content = _read(name)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # Asked for every time, and sent when it is another: an update shows at once.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)


@cache
def _names() -> frozenset[str]:
    folder = resources.files(web)
    return frozenset(file.name for file in folder.iterdir() if file.is_file())


@cache
def _read(name: str) -> bytes:
    return web.read(name).encode()
