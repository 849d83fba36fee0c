"""A PostgreSQL for all tests of this folder, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[Any]:
    """The server."""
    pytest.importorskip("psycopg_pool", reason="no psycopg here: make test-postgres")
    from .server import postgres, programs

    if programs() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with postgres() as server:
        yield server


@pytest.fixture
def url(running_postgres: Any) -> str:
    """Of a database of a test's own."""
    return running_postgres.new_database()
