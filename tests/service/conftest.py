"""A service with a toy model, which every test may use and none may stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import Server


@pytest.fixture(scope="session")
def toy_options(toy: Path) -> tuple[str, ...]:
    """What makes a service play the toy."""
    return ("--models", str(toy), "--default-model", f"local/{toy.name}", "--threads", "1")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, toy_options) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    with Server(folder / "state", *toy_options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


@pytest.fixture
def fresh(tmp_path: Path, toy_options) -> Iterator[Server]:
    """A service of a test's own, to be stopped, killed and filled; one job runs at a time."""
    options = (*toy_options, "--batch-rows", "1")
    with Server(tmp_path / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server
