"""`segue matrix --cluster`: rows and their quality as tasks of a real Ray cluster."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue.cli import main

pytest.importorskip("ray", reason='no Ray here: pip install ".[cluster]"')

import ray

from .nodes import nodes

pytestmark = pytest.mark.slow
FEW = ("--prompt-seconds", "0.2", "--output-seconds", "0.4", "--runs", "0", "--no-progress")
ROWS = ("--row", "name=baseline", "--row", "name=q8, bits=8", "--row", "name=q4, bits=4")


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, (88_200, 2))
    soundfile.write(path, samples, 44_100, "PCM_24")
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        with nodes(count=2, cpus=1) as cluster:
            yield cluster


def test_a_matrix_in_a_cluster_is_the_one_of_this_machine(
    cluster, toy, song, tmp_path, monkeypatch
):
    """And resumes, in a cluster or without one: rows that are done stay."""
    monkeypatch.chdir(tmp_path)
    words = [str(song), "--model", str(toy), *FEW, *ROWS, "--seed", "5"]
    assert main(["matrix", *words, "--out", "here", "--no-quality"]) == 0
    try:
        assert main(["matrix", *words, "--out", "far", "--cluster", cluster.address]) == 0
    finally:
        ray.shutdown()
    here, far = (json.loads(Path(f, "matrix.json").read_text()) for f in ("here", "far"))
    assert [row["status"] for row in far["rows"]] == ["ok"] * 3
    for ours, theirs in zip(here["rows"], far["rows"], strict=True):
        assert theirs["bench"]["codes_sha256"] == ours["bench"]["codes_sha256"]
        assert theirs["bench"]["prompt"] == ours["bench"]["prompt"] == str(song)
        assert theirs["quality"]["tokens"]
        for name in theirs["audio"].values():
            assert Path("far", name).read_bytes() == Path("here", name).read_bytes()
    text = Path("far/matrix.json").read_text()
    assert "\\u0000" not in text
    Path("far/rows/q8.json").unlink()
    done = Path("far/rows/q4.json").stat().st_mtime_ns
    try:
        words = ["--resume", "far", "--cluster", cluster.address, "--no-progress"]
        assert main(["matrix", *words]) == 0
    finally:
        ray.shutdown()
    assert [r["status"] for r in json.loads(Path("far/matrix.json").read_text())["rows"]] == [
        "ok"
    ] * 3
    assert Path("far/rows/q4.json").stat().st_mtime_ns == done


def test_a_row_that_fails_in_a_cluster_has_its_error(cluster, toy, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(toy), "stored", "--q-bits", "8"]) == 0
    words = [str(song), "--model", str(tmp_path / "stored"), *FEW, "--out", "m", "--no-quality"]
    rows = ("--row", "name=again, bits=4", "--row", "name=as-it-is")
    try:
        assert main(["matrix", *words, *rows, "--cluster", cluster.address]) == 0
    finally:
        ray.shutdown()
    again, fine = json.loads(Path("m/matrix.json").read_text())["rows"]
    assert (again["status"], fine["status"]) == ("failed", "ok")
    assert "quantized already" in again["error"]
    assert Path("m/rows/again.log").exists()
