"""An S3 for all tests of this folder, where its packages are installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from .s3 import Bucket

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The server's address, in the environment of this process and of those that it starts."""
    pytest.importorskip("s3fs", reason="no s3fs here: make test-storage")
    server = pytest.importorskip("moto.server", reason="no moto here: make test-storage")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        yield os.environ["AWS_ENDPOINT_URL"]
    running.stop()


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    """A new bucket."""
    return Bucket(f"bucket-{uuid4().hex[:8]}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that checkpoints are fetched into, here and in processes that are started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segue" / "storage"
