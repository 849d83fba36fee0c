"""An S3 for all tests of this folder, where its packages are installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.service.postgres.conftest import running_postgres, url

from .s3 import Bucket

__all__ = ["running_postgres", "url"]

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Store:
    """The server, which can be stopped, and has what it had when it is started again."""

    def __init__(self) -> None:
        self._server = pytest.importorskip("moto.server", reason="no moto here: make test-storage")
        self.port = 0
        self._running: Any = None
        self.start()

    def start(self) -> None:
        self._running = self._server.ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._running.start()
        _, self.port = self._running.get_host_and_port()

    def stop(self) -> None:
        self._running.stop()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """The server."""
    pytest.importorskip("s3fs", reason="no s3fs here: make test-storage")
    running = Store()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def endpoint(store: Store) -> Iterator[str]:
    """The server's address, in the environment of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.port}"}.items():
            patch.setenv(name, value)
        yield os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    """A new bucket."""
    return Bucket(f"bucket-{uuid4().hex[:8]}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that checkpoints are fetched into, here and in processes that are started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segue" / "storage"
