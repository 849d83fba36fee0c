"""The prompts that segue brings along, for people who have no music at hand."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from ... import demo
from ..exceptions import RefusalError
from .schemas.responses import refusals

router = APIRouter()

_FOLDER = "prompts"
_KIND = ".ogg"


def prompts() -> list[dict[str, str]]:
    """Their names, titles and addresses, in a fixed order."""
    return [
        {"name": name, "title": name.capitalize(), "url": f"/api/prompts/{name}{_KIND}"}
        for name in sorted(_files())
    ]


@router.get(
    "/api/prompts/{name}.ogg",
    response_class=Response,
    responses={200: {"content": {"audio/ogg": {}}}, **refusals(404)},
    tags=["service"],
)
def prompt(name: str) -> Response:
    """A piece of music to continue."""
    if (content := _files().get(name)) is None:
        raise RefusalError(404, "there is no prompt of that name")
    return Response(content, media_type="audio/ogg", headers={"Cache-Control": "no-cache"})


@cache
def _files() -> dict[str, Any]:
    """Their content by name: half a megabyte in all."""
    folder = resources.files(demo) / _FOLDER
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.name.endswith(_KIND)]
    return {file.name.removesuffix(_KIND): file.read_bytes() for file in files}
