"""`segue download`: the size first, then the files, resumed where they were interrupted."""

import json

import pytest

from segue.cli import main

from .checkpoints.test_hub import BESIDE, SAFETENSORS
from .fake_hub import FakeHub

WEIGHTS = "model.safetensors"
NAME = "owner/name"
TOTAL = sum(map(len, (BESIDE | SAFETENSORS).values()))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(monkeypatch):
    with FakeHub() as hub:
        hub.add(NAME, BESIDE | SAFETENSORS)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_the_size_is_said_before_the_weights_come(hub, capsys):
    hub.send_instead(WEIGHTS, b"something else")
    assert main(["download", NAME]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"{NAME}: 0 MB")
    assert "is not what it announced" in err


def test_a_checkpoint_is_downloaded_and_the_next_command_is_said(hub, capsys):
    assert main(["download", NAME, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == NAME
    (got,) = report["downloaded"]
    assert (got["name"], got["bytes"]) == (NAME, TOTAL)
    assert got["path"] == report["path"]
    requests = len(hub.requests)
    assert main(["download", NAME]) == 0
    out = capsys.readouterr().out
    assert f"{NAME} is here already: {report['path']}" in out
    assert f"segue continue song.wav --model {NAME}" in out
    assert len(hub.requests) == requests


def test_what_was_interrupted_goes_on_at_its_last_byte(hub, capsys, monkeypatch):
    monkeypatch.setattr("segue.checkpoints.download.PAUSES_S", ())
    hub.drop(WEIGHTS, 100_000)
    hub.answer(WEIGHTS, 503)
    assert main(["download", NAME]) == 2
    assert "run it again to go on from there" in capsys.readouterr().err
    assert main(["download", NAME, "--json"]) == 0
    (got,) = json.loads(capsys.readouterr().out)["downloaded"]
    assert got["missing_bytes"] == len(SAFETENSORS[WEIGHTS]) - 100_000
    ranges = [request.range for request in hub.requests if request.at_cdn]
    assert ranges[-1] == "bytes=100000-"


@pytest.mark.parametrize("word", ["nobody/nothing", "not a name"])
def test_a_name_that_is_none_is_one_line(hub, capsys, word):
    assert main(["download", word]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_without_a_network_it_is_one_line_that_says_what_is_here(hub, capsys, monkeypatch):
    hub.unplugged = True
    assert main(["download", NAME]) == 2
    assert "cannot reach" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["download", NAME]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_a_folder_or_the_built_in_one_is_here_already(hub, capsys):
    assert main(["download", "built-in"]) == 0
    assert "built-in is here already" in capsys.readouterr().out
    assert hub.requests == []
