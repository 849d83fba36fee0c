"""JSON that holds a file as one long string, taken apart without being in memory whole.

Parsed, a body of 160 MB would take several times that, and one that is meant to hurt (`[[],[],…`)
twenty times.  So long strings are left where they lie, and the rest is small, or refused.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..exceptions import RefusalError

_BLOCK = 1 << 20
_SHORT = 1 << 16
"""Bytes of a string that is parsed with the rest."""

_MARK_BYTES = 2048
"""Of a mark in a long string's stead: longer than any field may be, so none takes it for text."""

_ESCAPE = 6  # "\u0041", the longest
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

Span = tuple[int, int]
NO_JSON = "the request is not JSON"


def split(body: BinaryIO, most: int) -> tuple[dict[str, Any], dict[str, Span]]:
    """A JSON object, and where its long strings lie.

    Args:
        body: read from its start.
        most: bytes that it may have besides its long strings.

    Returns:
        The object, with a mark in the place of every long string; from mark to first byte and end.

    Raises:
        RefusalError: it is no JSON object, or too large.
    """
    rest, spans = bytearray(), {}
    inside = long = False
    started = kept = done = 0
    carried = b""
    while block := carried + body.read(_BLOCK):
        if block == carried:  # half an escape, and nothing behind it
            break
        carried, at = b"", 0
        while at < len(block):
            if not inside:
                quote = block.find(b'"', at)
                stop = len(block) if quote < 0 else quote + 1
                rest += block[at:stop]
                if quote >= 0:
                    inside, long = True, False
                    started, kept = done + stop, len(rest)
            else:
                found = _IN_STRING.match(block, at)
                assert found is not None  # noqa: S101 - it matches nothing at all, too
                stop = found.end()
                if not long:
                    rest += block[at:stop]
                    long = len(rest) - kept > _SHORT
                    if long:
                        del rest[kept:]
                if block[stop : stop + 1] == b'"':
                    if long:
                        mark = secrets.token_hex(_MARK_BYTES)
                        spans[mark] = (started, done + stop)
                        rest += mark.encode()
                    rest += b'"'
                    inside, stop = False, stop + 1
                elif stop < len(block):  # half an escape
                    carried = block[stop:]
                    break
            at = stop
            if len(rest) > most:
                line = f"the request holds more than {most >> 20} MB besides its audio"
                raise RefusalError(413, line)
        done += len(block) - len(carried)
    return object_of(bytes(rest)), spans


def object_of(text: bytes) -> dict[str, Any]:
    """A JSON object.

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


def text_of(body: BinaryIO, span: Span) -> Iterator[str]:
    """A long string that is ASCII, piece by piece.

    Raises:
        ValueError: it is not.
    """
    at, end = span
    body.seek(at)
    carried = b""
    while at < end:
        block = body.read(min(_BLOCK, end - at))
        at += len(block)
        block = carried + block
        carried = b""
        if at < end and (cut := block.rfind(b"\\", -_ESCAPE)) >= 0:
            block, carried = block[:cut], block[cut:]
        if b"\\" in block:
            yield str(json.loads(b'"' + block + b'"', strict=False))
        else:
            yield block.decode("ascii")
