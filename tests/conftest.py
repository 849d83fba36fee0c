"""Checkpoints of random weights, small enough for every test to run a real model."""

import signal
from pathlib import Path

import pytest

import segue
from segue.demo.toy import write_checkpoint


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c() -> None:
    # A shell has what it runs in the background ignore it, and whatever that starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("toy-stereo"), stereo=True)


@pytest.fixture(scope="session")
def model(toy: Path) -> segue.Model:
    return segue.load(str(toy))


@pytest.fixture(scope="session")
def stereo_model(toy_stereo: Path) -> segue.Model:
    return segue.load(str(toy_stereo))
