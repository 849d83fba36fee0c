"""`segue matrix --cluster`: rows and their quality as tasks of a real Ray cluster."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue.cli import main
from segue.lab.quality import request
from segue.lab.quality.free_running import compare_takes

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


def test_quality_goes_on_in_a_cluster_where_one_machine_stopped_and_is_the_same(
    cluster, toy, song, tmp_path, monkeypatch, capsys
):
    """To the last digit; and what had been found of some of the music is not sought again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    short = partial(request.QualityRequest, takes=1, continuation_seconds=0.3)
    monkeypatch.setattr(request, "QualityRequest", short)
    for name in ("a", "b", "c"):
        Path("music").mkdir(exist_ok=True)
        Path("music", f"{name}.wav").write_bytes(song.read_bytes())
    music = ("--quality-prompt", str(tmp_path / "music"))
    rows = ("--row", "name=baseline", "--row", "name=q4, bits=4")
    words = [str(song), "--model", str(toy), "--engine", "mlx", *FEW, *rows, *music, "--seed", "5"]
    assert main(["matrix", *words, "--out", "here"]) == 0

    def stops(work, n, *rest):
        if (work.request.variant.name, n) == ("q4", 2):
            raise KeyboardInterrupt
        return compare_takes(work, n, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("segue.lab.quality.measure.compare_takes", stops)
        assert main(["matrix", *words, "--out", "far"]) == 130
    assert Path("far/rows/q4.quality").is_dir()
    Path("far/rows/baseline.quality.json").unlink()
    capsys.readouterr()
    try:
        assert main(["matrix", "--resume", "far", "--cluster", cluster.address]) == 0
    finally:
        ray.shutdown()
    said = capsys.readouterr().err
    parts = [(name, n) for name in ("baseline", "q4") for n in (1, 2)]
    sent = [(name, n) for name, n in parts if f"quality of {name}, part {n} of 2" in said]
    assert sent == [("baseline", 1), ("baseline", 2), ("q4", 2)]
    for name in ("baseline", "q4"):
        ours, theirs = (Path(f, "rows", f"{name}.quality.json") for f in ("here", "far"))
        assert theirs.read_bytes() == ours.read_bytes()
        assert not Path("far/rows", f"{name}.quality").exists()


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
