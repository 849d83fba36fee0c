"""Checkpoints of random weights, small enough for every test to run a real model.

What is run beside what, and what is said at the end, is decided here too.
"""

import getpass
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path

# Before anything that computes is imported, here and in every process that a test starts: workers
# that share the cores must not each start as many threads as there are.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    threads = max(1, (os.cpu_count() or 1) // workers)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    # MLX's CUDA library may read what another worker is still writing, so each has a folder.
    compiled = Path(tempfile.gettempdir(), f"segue-tests-{getpass.getuser()}")
    compiled /= os.environ.get("PYTEST_XDIST_WORKER", "main")
    compiled.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLX_PTX_CACHE_DIR", str(compiled))

# What was made last in a test is not what this user made last; child processes keep to it, too.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="segue-tests-")

import pytest

import segue
from segue.demo.toy import write_checkpoint

from .compiled_by_mlx import exchange


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of slow tests first: begun last, one of them would leave the other cores idle."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_runtest_setup() -> None:
    """Have what other workers compiled meanwhile, seconds each, and give them what this one did."""
    if workers > 1:
        own = Path(os.environ["MLX_PTX_CACHE_DIR"])
        exchange(own, own.parent / "whole")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run, and why, where it is seen."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
    )
    if reasons:
        terminalreporter.section("not run here")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count} test{'s' * (count > 1)} skipped: {reason}")


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
