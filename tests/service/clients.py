"""A service with a file of clients, and each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from .server import SECONDS, Server, encoded, song

AUDIO = encoded(song(2.0))
"""Two seconds of a song, in base64."""


def token(name: str) -> str:
    """The token of a client."""
    return f"the-token-of-{name}-alone"


def clients_file(folder: Path, **limits: str) -> Path:
    """Write a file of clients.

    Args:
        folder: that it goes to.
        limits: lines of each client's table, by its name.
    """
    tables = (
        f'[clients.{name}]\ntoken = "{token(name)}"\n{lines}\n' for name, lines in limits.items()
    )
    path = folder / "clients.toml"
    path.write_text("\n".join(tables))
    return path


@contextmanager
def one_of(server: Server, name: str) -> Iterator[httpx2.Client]:
    """Send requests as one client."""
    headers = {"Authorization": f"Bearer {token(name)}"}
    with httpx2.Client(base_url=server.url, timeout=SECONDS, headers=headers) as client:
        yield client


def ask(client: httpx2.Client, seconds: float = 2.0, **fields: Any) -> httpx2.Response:
    """Ask for a job that has `seconds` of audio in all, one of them the prompt."""
    given = {"audio_data": AUDIO, "prompt_seconds": 1, "output_seconds": seconds} | fields
    return client.post("/api/jobs", json=given)
