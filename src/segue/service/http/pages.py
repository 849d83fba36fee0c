"""The page, and the files that it is made of."""

from __future__ import annotations

from os import PathLike, stat_result

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from ... import web

router = APIRouter(include_in_schema=False)

# Asked for every time, and sent when it is another: an update shows at once.
_REVALIDATE = {"Cache-Control": "no-cache"}


class _Files(StaticFiles):
    """Static files that a browser asks for again each time."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """See `StaticFiles.file_response`."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_REVALIDATE)
        return response


def mount_files(app: FastAPI) -> None:
    """Serve `segue.web`'s scripts and styles under `/web`."""
    app.mount("/web", _Files(directory=web.STATIC))


@router.get("/")
async def page() -> Response:
    """The page."""
    return FileResponse(web.STATIC / "service" / "index.html", headers=_REVALIDATE)
