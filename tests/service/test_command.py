"""`segue serve`: its options, and what it prints when it cannot."""

import argparse
import socket
import sys

import pytest

from segue.cli import main
from segue.errors import RequestError
from segue.service import command
from segue.service.settings import state_folder


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("SEGUE_TOKEN", raising=False)


def refused(capsys, *options):
    code = main(["serve", *options])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_a_port_in_use_is_an_error_of_one_line(capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capsys, "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in said
    assert "another --port" in said
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "protect it with --token"),
        (("--host", "::"), "protect it with --token"),
        (("--port", "70000"), "--port must lie between"),
        (("--keep", "0"), "--keep must be more than 0"),
        (("--keep", "nan"), "--keep must be more than 0"),
        (("--max-queue", "0"), "--max-queue must be 1 or more"),
        (("--batch-rows", "0"), "--batch-rows must lie between 1 and 128, not 0"),
        (("--workers", "0"), "--workers must be a number between 1 and 1024, or two such as 1-4"),
        (("--workers", "3-2"), "not 3-2"),
        (("--workers", "many"), "not many"),
        (("--max-disk", "-1"), "--max-disk must be more than 0"),
        (("--threads", "0"), "threads must lie between"),
        (("--models", "/no/such/folder"), "there is no such folder"),
        (("--models", "x" * 300), "there is no such folder"),
        (("--state-dir", "x" * 300), "cannot be used (File name too long)"),
        (("--default-model", "nobody/nothing"), "there is no model nobody/nothing here"),
    ],
)
def test_options_that_cannot_be_are_refused(capsys, options, said):
    assert said in refused(capsys, *options)


def test_an_environment_that_cannot_be_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("G4L_MLX_QUANTIZE", "perhaps")
    assert "G4L_MLX_QUANTIZE is 0 or 1" in refused(capsys)


def test_a_state_that_cannot_be_used_is_an_error_of_one_line(capsys, tmp_path):
    (tmp_path / "state").write_text("a file")
    assert "cannot be used" in refused(capsys, "--port", "0")
    (tmp_path / "state").unlink()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "segue.db").write_text("no database, but long enough to be one " * 20)
    assert "segue.db: cannot be used" in refused(capsys, "--port", "0")


def test_where_the_state_is_kept(monkeypatch):
    assert str(state_folder({"SEGUE_STATE": "/a/b"})) == "/a/b"
    monkeypatch.setattr("sys.platform", "linux")
    assert str(state_folder({"XDG_STATE_HOME": "/x"})) == "/x/segue"
    assert str(state_folder({})).endswith("/.local/state/segue")
    monkeypatch.setattr("sys.platform", "darwin")
    assert str(state_folder({})).endswith("/Library/Application Support/segue")


def test_the_token_comes_from_the_environment_too(monkeypatch):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    with pytest.raises(RequestError):
        command.settings_of(parser.parse_args(["serve", "--host", "0.0.0.0"]))
    monkeypatch.setenv("SEGUE_TOKEN", "secret")
    assert command.settings_of(parser.parse_args(["serve", "--host", "0.0.0.0"])).token == "secret"


def test_a_cluster_without_ray_is_an_error_of_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "segue.cluster", raising=False)
    said = refused(capsys, "--cluster", "127.0.0.1:1", "--port", "0")
    assert 'pip install "segue[cluster]"' in said
