"""What workers run on: cards, and their share of the processors."""

import argparse
import stat

import pytest

from segue.cli import make_parser
from segue.service import command
from segue.service.app import make_app
from segue.service.devices import VISIBLE, cores, gpus
from segue.service.jobs.store import Store
from segue.service.workers.client import Worker


@pytest.mark.parametrize(
    ("visible", "cards"),
    [("", ()), ("0", ("0",)), ("3, GPU-a", ("3", "GPU-a")), ("1,-1,2", ("1",)), ("-1", ())],
)
def test_cards_are_those_that_cuda_would_see(visible, cards):
    assert gpus({VISIBLE: visible}) == cards


def test_cards_are_those_that_the_driver_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert gpus({}) == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert gpus({}) == ("GPU-1", "GPU-2")
    program.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert gpus({}) == ()


def settings(monkeypatch, tmp_path, *options, engine="native", visible=""):
    monkeypatch.setenv(VISIBLE, visible)
    monkeypatch.setattr(command, "engine_for", lambda name: engine)
    words = ["serve", "--state-dir", str(tmp_path / "state"), "--batch-rows", "1", *options]
    given: argparse.Namespace = make_parser().parse_args(words)
    return command.settings_of(given)


@pytest.mark.parametrize(
    ("options", "engine", "visible", "workers", "cards"),
    [
        ((), "native", "0,1", (1, 1), ()),
        ((), "mlx", "", (1, 1), ()),
        ((), "mlx", "0,1,2", (3, 3), ("0", "1", "2")),
        (("--workers", "4"), "mlx", "0,1", (4, 4), ("0", "1")),
        (("--workers", "1-4"), "native", "", (1, 4), ()),
    ],
)
def test_there_is_a_worker_for_each_card(
    monkeypatch, tmp_path, options, engine, visible, workers, cards
):
    found = settings(monkeypatch, tmp_path, *options, engine=engine, visible=visible)
    assert (found.workers, found.gpus) == (workers, cards)


def test_workers_share_the_processors(monkeypatch, tmp_path):
    assert settings(monkeypatch, tmp_path).threads is None
    shared = settings(monkeypatch, tmp_path, "--workers", "2").threads
    assert shared == max(1, cores() // 2)
    assert settings(monkeypatch, tmp_path, "--workers", "2", "--threads", "7").threads == 7


def test_each_worker_sees_one_card(monkeypatch, tmp_path):
    """Cards in turn, where there are more workers than cards."""
    found = settings(monkeypatch, tmp_path, "--workers", "3", engine="mlx", visible="4,7")
    _, service = make_app(found, Store(found.state))
    workers = [place.worker for place in service.pool.places]
    service.store.close()
    seen = [worker.environment for worker in workers if isinstance(worker, Worker)]
    assert seen == [{VISIBLE: card} for card in ("4", "7", "4")]
