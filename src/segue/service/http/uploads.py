"""Bodies of requests: those with audio are read to a file, and the audio is taken out of them.

Sixty clients may send thirty megabytes each at once; what is in memory at any time is a few.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from ..exceptions import BusyError, RefusalError
from ..settings import Settings
from .json_stream import object_of, split, text_of

Fields = TypeVar("Fields", bound=BaseModel)

_PARSED_AT_ONCE = 2
_WRITTEN_AT_ONCE = 1 << 20
_SECONDS_TO_ARRIVE = 30.0


class Bodies:
    """Reads bodies, by way of a folder.

    Args:
        folder: for what is on its way.
        settings: of the service.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._besides = settings.limits.small_body_bytes
        self._room = max(settings.max_disk_bytes, settings.limits.body_bytes)
        self._held: dict[Path, int] = {}
        self._parsing = asyncio.Semaphore(_PARSED_AT_ONCE)

    async def fields(self, request: Request, model: type[Fields]) -> Fields:
        """A small body.

        Raises:
            RefusalError: it is no JSON, or a field is not as it must be.
        """
        return parsed(await request.body() or b"{}", model)

    @asynccontextmanager
    async def upload(
        self, request: Request, model: type[Fields]
    ) -> AsyncIterator[tuple[Fields, Path]]:
        """A body with audio: its fields, and the file, which is gone afterwards.

        Raises:
            RefusalError: it is no JSON, a field is not as it must be, or the audio is no base64.
            BusyError: others send so much that there is no room.
        """
        body = self._folder / f"{uuid.uuid4()}.json"
        audio = body.with_suffix(".audio")
        try:
            await self._receive(request, body)
            async with self._parsing:
                fields = await asyncio.to_thread(self._take_apart, body, audio, model)
            body.unlink()
            yield fields, audio
        finally:
            self._held.pop(body, None)
            body.unlink(missing_ok=True)
            audio.unlink(missing_ok=True)

    async def _receive(self, request: Request, to: Path) -> None:
        """Write a body to a file as it comes."""
        with to.open("wb") as file:
            pending = bytearray()
            self._held[to] = 0
            try:
                async for chunk in request.stream():
                    self._held[to] += len(chunk)
                    if sum(self._held.values()) > self._room:
                        raise BusyError(
                            "segue has no room for what is being sent to it now; try again in a "
                            "while",
                            _SECONDS_TO_ARRIVE,
                        )
                    pending += chunk
                    if len(pending) >= _WRITTEN_AT_ONCE:
                        await asyncio.to_thread(file.write, bytes(pending))
                        pending.clear()
            except ClientDisconnect:
                raise RefusalError(400, "the request did not arrive whole; try again") from None
            file.write(pending)

    def _take_apart(self, body: Path, audio: Path, model: type[Fields]) -> Fields:
        with body.open("rb") as file:
            content, spans = split(file, self._besides)
            encoded = content.get("audio_data")
            if encoded is None or encoded == "":
                raise RefusalError(422, "there is no audio: audio_data is missing or empty")
            if not isinstance(encoded, str):
                raise RefusalError(422, "audio_data must be an audio file in base64")
            content["audio_data"] = "..."  # it need not be looked at again
            fields = validated(content, model)
            span = spans.get(encoded)
            _decode([encoded] if span is None else text_of(file, span), audio)
        return fields


def _decode(encoded: Iterable[str], to: Path) -> None:
    """Write what base64 stands for, piece by piece."""
    try:
        with to.open("wb") as file:
            left = None
            for piece in encoded:
                if left is None:
                    left = piece.partition(",")[2] if piece.startswith("data:") else piece
                else:
                    left += piece
                left = "".join(left.split())
                # Whole groups of four, but for the last one, which may be padded.
                whole = max(0, len(left) - 1) // 4 * 4 - 4
                if whole > 0:
                    file.write(base64.b64decode(left[:whole], validate=True))
                    if left[whole - 1] == "=":
                        raise ValueError("it goes on behind its end")
                    left = left[whole:]
            text = (left or "").rstrip("=")
            file.write(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
            if file.tell() == 0:
                raise RefusalError(422, "there is no audio: audio_data is empty")
    except ValueError:  # of base64, of ASCII and of JSON
        raise RefusalError(422, "audio_data is no base64; send the file again") from None


def parsed(body: bytes, model: type[Fields]) -> Fields:
    """The fields of a body.

    Raises:
        RefusalError: it is no JSON, or a field is not as it must be.
    """
    return validated(object_of(body), model)


def validated(content: dict[str, Any], model: type[Fields]) -> Fields:
    """The fields of an object.

    Raises:
        RefusalError: the first field that is not as it must be.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        said = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "missing":
            said = "is missing"
        elif first["type"] == "string_type":
            said = "must be text"
        raise RefusalError(422, f"{name} {said[:1].lower()}{said[1:]}") from None


def documented(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """What OpenAPI says of a body that is read here and not by FastAPI."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}
