"""Files of the laboratory: JSON, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..atomic import writing
from ..errors import RequestError


def write_json(path: Path, content: Any) -> None:
    """Write `path` whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, schema: int) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        RequestError: there is no such file, or it is not one that this version can go on with.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise RequestError(f"{path}: not JSON") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise RequestError(f"{path}: not written by this version of segue")
    return content
