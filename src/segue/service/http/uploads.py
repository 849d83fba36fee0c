"""Bodies of requests: the audio is decoded from base64 into a file while it arrives.

Sixty clients may send thirty megabytes each at once; what is in memory at any time is a few.  The
file is the one copy of an upload besides the decoded audio: decoders seek in it, and a slow client
must not keep the one process waiting that decodes.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from ..exceptions import BusyError, RefusalError
from ..settings import Settings
from ..threads import run_to_end
from .json_stream import JsonStream, object_of
from .schemas.requests import inlined_schema, line_of

Fields = TypeVar("Fields", bound=BaseModel)

AUDIO, MELODY = "audio_data", "melody_data"
"""The fields that hold a file."""

_PARSED_AT_ONCE = 2
_FED_AT_ONCE = 1 << 20
_SECONDS_TO_ARRIVE = 30.0


class Base64File:
    """A file that base64 is decoded into, piece by piece.

    What is no base64 is refused by `check` alone: it may be of a field that no route reads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._left: bytes | None = None
        self._valid = True

    def write(self, data: bytes) -> None:
        """Decode what comes next; white space does not count, nor does a `data:` prefix."""
        if self._left is None:
            self._left = b""
            data = data.partition(b",")[2] if data.startswith(b"data:") else data
        left = self._left + b"".join(data.split())
        # Whole groups of four, but for the last one, which may be padded.
        whole = max(0, len(left) - 1) // 4 * 4 - 4
        if whole > 0:
            self._decode(left[:whole])
            self._valid = self._valid and left[whole - 1 : whole] != b"="  # nothing follows its end
            left = left[whole:]
        self._left = left

    def _decode(self, text: bytes) -> None:
        if self._valid:
            try:
                self._file.write(base64.b64decode(text, validate=True))
            except ValueError:
                self._valid = False

    def close(self) -> None:
        """Decode the last piece."""
        text = (self._left or b"").rstrip(b"=")
        self._decode(text + b"=" * (-len(text) % 4))
        self._file.close()

    def check(self, field: str = AUDIO) -> None:
        """Look at what came in a field.

        Raises:
            RefusalError: it was no base64, or nothing.
        """
        if not self._valid:
            raise RefusalError(422, f"{field} is no base64; send the file again")
        if self.path.stat().st_size == 0:
            raise RefusalError(422, f"there is no audio: {field} is empty")

    def discard(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # of a full disk, on what was not written yet
            self._file.close()
        self.path.unlink(missing_ok=True)


class Uploads:
    """Reads bodies.

    Args:
        folder: for audio files.
        settings: of the service.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._besides = settings.limits.small_body_bytes
        self._room = max(settings.max_disk_bytes, settings.limits.body_bytes)
        self._received: dict[object, int] = {}
        self._parsing = asyncio.Semaphore(_PARSED_AT_ONCE)

    async def fields(self, request: Request, model: type[Fields]) -> Fields:
        """Read a body without audio.

        Raises:
            RefusalError: it is no JSON, or a field is not as it must be.
        """
        return validated(object_of(await request.body() or b"{}"), model)

    @asynccontextmanager
    async def audio(
        self, request: Request, model: type[Fields]
    ) -> AsyncIterator[tuple[Fields, Path]]:
        """Read a body with audio: its fields, and the audio file, which is gone afterwards.

        Errors are those of `files`.
        """
        async with self.files(request, model) as (fields, files):
            yield fields, files[AUDIO]

    @asynccontextmanager
    async def files(
        self,
        request: Request,
        model: type[Fields],
        required: tuple[str, ...] = (AUDIO,),
        optional: tuple[str, ...] = (),
    ) -> AsyncIterator[tuple[Fields, dict[str, Path]]]:
        """Read a body with audio files: its fields, and the files, which are gone afterwards.

        Args:
            request: whose body it is.
            model: of its fields, those of the files among them.
            required: fields that hold a file.
            optional: fields that may hold one.

        Yields:
            The fields, and the files that there are, by the names of their fields.

        Raises:
            RefusalError: it is no JSON, a field is not as it must be, or a file is no base64.
            BusyError: others send so much that there is no room.
        """
        files: list[Base64File] = []

        def open_file() -> Base64File:
            files.append(Base64File(self._folder / f"{uuid.uuid4()}.audio"))
            return files[-1]

        stream = JsonStream(self._besides, open_file)
        try:
            await self._receive(request, stream)
            async with self._parsing:
                fields, found = await run_to_end(
                    _finish, stream, open_file, model, required, optional
                )
            yield fields, found
        finally:
            self._received.pop(stream, None)
            for each in files:
                each.discard()

    async def _receive(self, request: Request, stream: JsonStream[Base64File]) -> None:
        """Take a body apart as it comes."""
        pending = bytearray()
        self._received[stream] = 0
        try:
            async for chunk in request.stream():
                self._received[stream] += len(chunk)
                if sum(self._received.values()) > self._room:
                    raise BusyError(
                        "segue has no room for what is being sent to it now; try again in a while",
                        _SECONDS_TO_ARRIVE,
                    )
                pending += chunk
                if len(pending) >= _FED_AT_ONCE:
                    await run_to_end(stream.feed, bytes(pending))
                    pending.clear()
        except ClientDisconnect:
            raise RefusalError(400, "the request did not arrive whole; try again") from None
        await run_to_end(stream.feed, bytes(pending))


def _finish(
    stream: JsonStream[Base64File],
    open_file: Callable[[], Base64File],
    model: type[Fields],
    required: tuple[str, ...],
    optional: tuple[str, ...],
) -> tuple[Fields, dict[str, Path]]:
    """The fields of a body that has arrived, and its files."""
    content = stream.close()
    sent: dict[str, str] = {}
    for field in (*required, *optional):
        encoded = content.get(field)
        if encoded is None or encoded == "":
            if field in required:
                raise RefusalError(422, f"there is no audio: {field} is missing or empty")
            content.pop(field, None)
            continue
        if not isinstance(encoded, str):
            raise RefusalError(422, f"{field} must be an audio file in base64")
        sent[field], content[field] = encoded, "..."  # it need not be looked at again
    fields = validated(content, model)
    files: dict[str, Path] = {}
    for field, encoded in sent.items():
        file: Base64File | None = stream.sinks.get(encoded)
        if file is None:  # a short one
            file = open_file()
            file.write(encoded.encode(errors="surrogatepass"))
            file.close()
        file.check(field)
        files[field] = file.path
    return fields, files


def validated(content: dict[str, Any], model: type[Fields]) -> Fields:
    """The fields of an object.

    Raises:
        RefusalError: the first field that is not as it must be.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RefusalError(422, line_of(error, model)) from None


def documented(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """OpenAPI's `requestBody` for a route whose body is read here and not by FastAPI."""
    content = {"application/json": {"schema": inlined_schema(model)}}
    return {"requestBody": {"required": required, "content": content}}
