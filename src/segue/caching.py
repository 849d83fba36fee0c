"""Where what can be made or fetched again is kept, from one process to the next."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """The folder `$XDG_CACHE_HOME/segue/<name>`, or None if none can be written."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(root).expanduser() / "segue" / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else None
