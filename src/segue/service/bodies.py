"""Bodies of requests: read to a file, parsed in a thread, and audio taken out of them.

Sixty clients may send thirty megabytes each at once; what is in memory at any time is a few.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from .errors import RefusalError

Fields = TypeVar("Fields", bound=BaseModel)

_PARSED_AT_ONCE = 2
_SLICE = 1 << 20  # characters of base64, whole groups of four
_WRITTEN_AT_ONCE = 1 << 20


class Bodies:
    """Reads bodies, by way of a folder.

    Args:
        folder: for what is on its way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        """
        body = self._folder / f"{uuid.uuid4()}.json"
        audio = body.with_suffix(".audio")
        try:
            await _receive(request, body)
            async with self._parsing:
                fields = await asyncio.to_thread(_take_apart, body, audio, model)
            yield fields, audio
        finally:
            body.unlink(missing_ok=True)
            audio.unlink(missing_ok=True)


async def _receive(request: Request, to: Path) -> None:
    """Write a body to a file as it comes."""
    with to.open("wb") as file:
        pending = bytearray()
        try:
            async for chunk in request.stream():
                pending += chunk
                if len(pending) >= _WRITTEN_AT_ONCE:
                    await asyncio.to_thread(file.write, bytes(pending))
                    pending.clear()
        except ClientDisconnect:
            raise RefusalError(400, "the request did not arrive whole; try again") from None
        file.write(pending)


def _take_apart(body: Path, audio: Path, model: type[Fields]) -> Fields:
    content = _json(body.read_bytes())
    encoded = content.get("audio_data")
    if encoded is None or encoded == "":
        raise RefusalError(422, "there is no audio: audio_data is missing or empty")
    if not isinstance(encoded, str):
        raise RefusalError(422, "audio_data must be an audio file in base64")
    content["audio_data"] = "..."  # it need not be looked at again
    fields = validated(content, model)
    _decode(encoded, audio)
    return fields


def _decode(encoded: str, to: Path) -> None:
    """Write what base64 stands for, slice by slice."""
    if encoded.startswith("data:"):
        encoded = encoded.partition(",")[2]
    start = 0
    with to.open("wb") as file:
        left = ""
        while start < len(encoded) or left:
            piece = encoded[start : start + _SLICE]
            start += _SLICE
            text = left + "".join(piece.split())
            last = start >= len(encoded)
            whole = len(text) if last else len(text) // 4 * 4
            text, left = text[:whole], text[whole:]
            if last:
                text = text.rstrip("=")
                text += "=" * (-len(text) % 4)
            elif "=" in text:
                raise RefusalError(422, "audio_data is no base64: it goes on behind its end")
            try:
                file.write(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                raise RefusalError(422, "audio_data is no base64; send the file again") from None
        if file.tell() == 0:
            raise RefusalError(422, "there is no audio: audio_data is empty")


def parsed(body: bytes, model: type[Fields]) -> Fields:
    """The fields of a body.

    Raises:
        RefusalError: it is no JSON, or a field is not as it must be.
    """
    return validated(_json(body), model)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusalError(422, "the request is not JSON") from None
    if not isinstance(content, dict):
        raise RefusalError(422, "the request must be a JSON object")
    return content


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
