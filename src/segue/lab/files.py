"""Reading the laboratory's JSON files; `segue.outputs.write_json` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import RequestError


def read_json(path: Path, schema: int) -> dict[str, Any]:
    """Return what `segue.outputs.write_json` wrote.

    Raises:
        RequestError: there is no such file, or it is not one that this version can read.
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
