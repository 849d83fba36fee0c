"""A JSON object of which one field is a file in base64, sent piece by piece.

The plugin may poll for eight megabytes in one field once a second; they are never in memory.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.responses import StreamingResponse

_PIECE = 3 << 16  # whole groups of three bytes


class Base64Response(StreamingResponse):
    """The fields of `content`, and the file as the last one.

    Args:
        content: all other fields.
        field: the name of the one that is the file.
        path: opened at once, so that it can be swept meanwhile.

    Raises:
        OSError: the file is not there.
    """

    def __init__(self, content: dict[str, Any], field: str, path: Path) -> None:
        handle = path.open("rb")
        head = json.dumps(content).encode().removesuffix(b"}")
        head += b", " + json.dumps(field).encode() + b': "'
        size = os.fstat(handle.fileno()).st_size
        length = len(head) + (size + 2) // 3 * 4 + len(b'"}')

        def pieces() -> Iterator[bytes]:
            with handle:
                yield head
                while piece := handle.read(_PIECE):
                    yield base64.b64encode(piece)
                yield b'"}'

        super().__init__(
            pieces(), media_type="application/json", headers={"Content-Length": str(length)}
        )
