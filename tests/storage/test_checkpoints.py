"""Checkpoints in S3: fetched once, whole or not at all, by one process of many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segue.checkpoints import hub
from segue.checkpoints.opening import open_checkpoint
from segue.cli import main
from segue.errors import CheckpointError
from tests.service.server import Server, begin

LARGE = 80 << 20
"""More than is asked for at a time."""

LOCATE = """
import sys
from segue.checkpoints import hub
print(hub.locate(sys.argv[1]))
"""

LOCATE_AND_DIE = """
import os, signal, sys
from contextlib import contextmanager
from segue.checkpoints import hub
from segue.progress import Progress

class Killed(Progress):
    @contextmanager
    def stage(self, name, total=None, unit=""):
        yield lambda done, total=None: done > 1000 and os.kill(os.getpid(), signal.SIGKILL)

hub.locate(sys.argv[1], progress=Killed())
"""


def run(script: str, address: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, address], stdout=subprocess.PIPE, text=True
    )


def test_a_checkpoint_in_s3_is_opened_as_one_in_a_folder(bucket, cache, toy):
    address = bucket.upload("models/toy", toy)
    bucket.put("models/toy/optimizer.bin", b"of no use")
    checkpoint = open_checkpoint(address)
    assert checkpoint.config == open_checkpoint(str(toy)).config
    assert not (checkpoint.folder / "optimizer.bin").exists()
    assert hub.locate(address) == checkpoint.folder


def test_many_processes_at_once_get_the_same_whole_folder(bucket, cache, toy):
    address = bucket.upload("toy", toy)
    processes = [run(LOCATE, address) for _ in range(4)]
    said = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    (folder,) = map(Path, said)
    for path in folder.iterdir():
        assert path.read_bytes() == (toy / path.name).read_bytes()
    assert not list(cache.glob("*/.*.part"))


def test_a_fetch_that_was_killed_goes_on(bucket, cache):
    content = os.urandom(1 << 20) * (LARGE >> 20)
    bucket.put("large/config.json", b"{}")
    bucket.put("large/model.safetensors", content)
    address = bucket.address("large")
    assert run(LOCATE_AND_DIE, address).wait() == -signal.SIGKILL
    assert hub.find_local(address) is None
    (begun,) = cache.glob("*/.*.part/large/model.safetensors.incomplete")
    assert 0 < begun.stat().st_size < LARGE
    inode = begun.stat().st_ino
    folder = hub.locate(address)
    assert (folder / "model.safetensors").read_bytes() == content
    assert (folder / "model.safetensors").stat().st_ino == inode


def test_what_was_replaced_is_fetched_again(bucket, cache):
    bucket.put("m/config.json", b"{}")
    bucket.put("m/model.safetensors", b"old")
    first = hub.locate(bucket.address("m"))
    bucket.put("m/model.safetensors", b"old")  # the same again, later
    assert hub.locate(bucket.address("m")) == first
    bucket.put("m/model.safetensors", b"new")
    assert (hub.locate(bucket.address("m")) / "model.safetensors").read_bytes() == b"new"


def test_what_s3_has_not_is_one_line(bucket, cache):
    with pytest.raises(CheckpointError, match="there is nothing at this address"):
        hub.locate(bucket.address("none"))
    with pytest.raises(CheckpointError, match="there is nothing at this address"):
        hub.locate("s3://no-such-bucket-at-all/model")


def test_without_the_store_a_copy_is_used_and_else_it_is_one_line(bucket, cache, toy, tmp_path):
    address = bucket.upload("toy", toy)
    folder = hub.locate(address)
    words = [sys.executable, "-m", "segue", "download"]
    gone = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    copy = subprocess.run([*words, address], env=gone, capture_output=True, text=True)
    assert copy.returncode == 0
    assert str(folder) in copy.stdout
    assert "the copy that was fetched before is used" in copy.stderr
    other = bucket.address("other")
    none = subprocess.run([*words, other], env=gone, capture_output=True, text=True)
    assert none.returncode == 2
    assert none.stderr.startswith(f"segue: {other}: the store does not answer")
    assert none.stderr.count("\n") == 1


def test_a_command_downloads(bucket, cache, toy, capsys):
    address = bucket.upload("toy", toy)
    assert main(["download", address, "--no-progress"]) == 0
    assert f"{address} is here: {cache}" in capsys.readouterr().out
    assert main(["download", address, "--no-progress"]) == 0
    assert "is here already" in capsys.readouterr().out


def test_a_service_plays_a_model_of_s3(bucket, cache, toy, tmp_path):
    bucket.upload("models/toy", toy)
    options = ["--models", bucket.address("models"), "--engine", "openvino"]
    with Server(tmp_path / "state", *options) as server:
        session = begin(server, model_name="local/toy")
        assert server.finished(session)["audio_data"]
