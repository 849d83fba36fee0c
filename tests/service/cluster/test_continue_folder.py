"""`segue continue FOLDER --cluster`: each file on a machine of a real Ray cluster."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from segue.cli import main

pytest.importorskip("ray", reason='no Ray here: pip install ".[cluster]"')

import ray

from .nodes import nodes

pytestmark = pytest.mark.slow
FEW = ("--prompt-seconds", "0.2", "--output-seconds", "0.4", "--seed", "5")


@pytest.fixture(scope="module")
def cluster():
    with nodes(count=2, cpus=1) as cluster:
        yield cluster


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "songs"
    folder.mkdir()
    for n in range(3):
        samples = np.random.default_rng(n).normal(0, 0.1, (44_100, 2))
        soundfile.write(folder / f"song{n}.wav", samples, 44_100, "PCM_16")
    return folder


def run(cluster, *words):
    try:
        return main(["continue", *map(str, words), "--cluster", cluster.address])
    finally:
        ray.shutdown()


def test_a_folder_in_a_cluster_is_what_each_file_is_here_and_resumes(cluster, toy, songs, capsys):
    (songs / "broken.wav").write_bytes(b"no audio")
    words = ("songs", "--model", toy, *FEW, "-o", "made")
    assert run(cluster, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "segue: 1 of 4 files failed, broken.wav among them"
    for n in range(3):
        assert main(["continue", f"songs/song{n}.wav", "--model", str(toy), *FEW]) == 0
        name = f"song{n}-continued.wav"
        assert Path("made", name).read_bytes() == Path(name).read_bytes()
        report = json.loads(Path("made", f"song{n}.json").read_text())
        assert report["outputs"][0]["path"] == name
    (songs / "broken.wav").unlink()
    Path("made/song1.json").unlink()
    Path("made/song2-continued.wav").unlink()  # it has a report, and so is done
    capsys.readouterr()
    assert run(cluster, *words) == 0
    assert "2 of 3 files have a report in made" in capsys.readouterr().err
    assert Path("made/song1.json").exists()
    assert not Path("made/song2-continued.wav").exists()


def test_what_is_made_in_a_cluster_goes_to_an_address(cluster, toy, songs, capsys):
    (songs / "song2.wav").unlink()
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/made/song0.json", b"{}")
    words = ("songs", "--model", toy, *FEW, "-o", "memory://bucket/made/")
    assert run(cluster, *words) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "1 of 2 files have a report in memory://bucket/made, and are done"
    assert said[1] == "memory://bucket/made/song1-continued.wav"
    names = sorted(name.rpartition("/")[2] for name in store.find("/bucket/made"))
    assert names == ["song0.json", "song1-continued.wav", "song1.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("songs/song1.wav",), "--cluster continues a folder of files"),
        (("empty",), "no audio in this folder"),
        (("songs", "--json"), "every file has a report"),
        (("twice",), "two files are called a"),
    ],
)
def test_what_cannot_be_is_one_line_before_a_cluster_is_joined(songs, capsys, words, said):
    Path("empty").mkdir()
    Path("twice").mkdir()
    for name in ("a.wav", "a.mp3"):
        Path("twice", name).touch()
    assert main(["continue", *words, "--cluster", "127.0.0.1:1"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
