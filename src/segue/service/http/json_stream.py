"""JSON that holds a file as one long string, taken apart while it arrives.

Parsed, a body of 160 MB would take several times that in memory, and one that is meant to hurt
(`[[],[],…`) twenty times.  So long strings go elsewhere as they come, and the rest is small, or
refused.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ..exceptions import RefusalError

_SHORT = 1 << 16
"""Bytes of a string that is parsed with the rest."""

_MARK_BYTES = 2048
"""Of a mark in a long string's stead: longer than any field may be, so none takes it for text."""

_ESCAPE = 6  # "\u0041", the longest
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

NO_JSON = "the request is not JSON"


class Sink(Protocol):
    """Where a long string goes."""

    def write(self, data: bytes) -> None:
        """Take what comes next of it, in UTF-8."""

    def close(self) -> None:
        """Nothing more comes."""


S = TypeVar("S", bound=Sink)


class JsonStream(Generic[S]):
    """A JSON object that arrives piece by piece.

    Args:
        most: bytes that it may have besides its long strings.
        open_sink: makes the sink of a long string.

    Attributes:
        sinks: of the long strings so far, by the mark that stands for each in the object.
    """

    def __init__(self, most: int, open_sink: Callable[[], S]) -> None:
        self._most, self._open_sink = most, open_sink
        self._rest = bytearray()
        self._inside = False
        self._short_from = 0  # where in the rest the string begins that is being read
        self._sink: S | None = None  # of that string, if it is long
        self._carried = b""  # half an escape
        self._unwritten = b""  # of the sink, the same
        self.sinks: dict[str, S] = {}

    def feed(self, data: bytes) -> None:
        """Take apart what arrives next.

        Raises:
            RefusalError: it is too large, or no JSON.
        """
        block, at = self._carried + data, 0
        self._carried = b""
        while at < len(block):
            if not self._inside:
                quote = block.find(b'"', at)
                stop = len(block) if quote < 0 else quote + 1
                self._rest += block[at:stop]
                if quote >= 0:
                    self._inside, self._short_from = True, len(self._rest)
            else:
                found = _IN_STRING.match(block, at)
                assert found is not None  # noqa: S101 - it matches nothing at all, too
                stop = found.end()
                self._add(block[at:stop])
                if block[stop : stop + 1] == b'"':
                    self._end_string()
                    stop += 1
                elif stop < len(block):  # half an escape
                    self._carried = block[stop:]
                    stop = len(block)
            at = stop
            if len(self._rest) > self._most:
                line = f"the request holds more than {self._most >> 20} MB besides its audio"
                raise RefusalError(413, line)

    def _add(self, text: bytes) -> None:
        if self._sink is None:
            self._rest += text
            if len(self._rest) - self._short_from <= _SHORT:
                return
            self._sink, text = self._open_sink(), bytes(self._rest[self._short_from :])
            mark = secrets.token_hex(_MARK_BYTES)
            self.sinks[mark] = self._sink
            self._rest[self._short_from :] = mark.encode()
        text = self._unwritten + text
        cut = text.rfind(b"\\", -_ESCAPE)  # may be the start of half an escape
        cut = len(text) if cut < 0 else cut
        self._unwritten = text[cut:]
        self._sink.write(_unescaped(text[:cut]))

    def _end_string(self) -> None:
        if self._sink is not None:
            self._sink.write(_unescaped(self._unwritten))
            self._sink.close()
            self._sink, self._unwritten = None, b""
        self._rest += b'"'
        self._inside = False

    def close(self) -> dict[str, Any]:
        """The object, with a mark in the place of every long string.

        Raises:
            RefusalError: it is no JSON object.
        """
        return object_of(bytes(self._rest + self._carried))


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    try:
        return str(json.loads(b'"' + text + b'"', strict=False)).encode(errors="surrogatepass")
    except ValueError:
        raise RefusalError(422, NO_JSON) from None


def object_of(text: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RefusalError: it is none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusalError(422, NO_JSON) from None
    if not isinstance(content, dict):
        raise RefusalError(422, "the request must be a JSON object")
    return content
