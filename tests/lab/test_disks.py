"""The laboratory on disks that are full, closed, or take no longer names."""

import json
import subprocess

import numpy as np
import pytest
import soundfile

from segue.audio import Audio
from segue.cli import main
from segue.continuation import Request
from segue.errors import OutputError, RequestError
from segue.lab.matrix import Folder
from segue.lab.requests import MatrixRequest
from segue.lab.variant import Variant
from segue.outputs import write_json

from ..disks import fill, small_disk

FEW = ("--prompt-seconds", "0.2", "--output-seconds", "0.4", "--runs", "0", "--engine", "mlx")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def refused(capsys, *words):
    """The lines of a command that ends with 2."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_json_is_written_whole_or_not_at_all(here):
    with small_disk(here / "disk") as disk:
        write_json(disk / "a.json", {"schema": 1})
        fill(disk)
        with pytest.raises(OutputError, match=r"a\.json: cannot be written \(No space left"):
            write_json(disk / "a.json", {"schema": 1, "more": "x" * 10_000})
        assert json.loads((disk / "a.json").read_text()) == {"schema": 1}
        assert {path.name for path in disk.iterdir()} == {"a.json", "filler"}


@pytest.mark.parametrize("option", ["--report-json", "--save-prefix"])
def test_a_bench_on_a_full_disk_is_one_line(toy, song, here, capsys, option):
    with small_disk(here / "disk") as disk:
        fill(disk)
        words = ("bench", "--prompt", song, "--model", toy, *FEW, option, disk / "x")
        line = refused(capsys, *words)
        assert line.startswith(f"segue: {disk / 'x'}")
        assert "cannot be written (No space left on device)" in line
        assert line.count("\n") == 1
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_matrix_on_a_full_disk_is_one_line(toy, song, here, capsys):
    with small_disk(here / "disk") as disk:
        fill(disk)
        row = ("--row", "name=baseline", "--no-quality", "--no-progress")
        line = refused(capsys, "matrix", song, "--model", toy, *FEW, *row, "--out", disk / "m")
        assert line.startswith(f"segue: {disk / 'm' / 'matrix.json'}: cannot be written (No space")
        assert line.count("\n") == 1


def test_a_matrix_whose_disk_fills_up_stays_as_it_was(here):
    with small_disk(here / "disk") as disk:
        request = Request(Audio(np.zeros((10, 1), np.float32), 44_100), seed=0)
        folder = Folder.make(disk / "m", MatrixRequest([Variant("q8")], request, "song.wav"))
        before = (disk / "m" / "matrix.json").read_text()
        fill(disk)
        folder.matrix["rows"][0]["error"] = "x" * 10_000
        with pytest.raises(OutputError, match="No space left"):
            folder.write()
        assert (disk / "m" / "matrix.json").read_text() == before


def test_a_row_of_a_name_that_files_cannot_have_is_refused():
    Variant("q" * 100)
    with pytest.raises(RequestError, match="at most 100"):
        Variant("q" * 101)


@pytest.mark.parametrize(
    "words", [("--out", "x" * 256), ("--out", f"a/{'x' * 256}/b"), ("--out", "song.wav/m")]
)
def test_a_matrix_that_cannot_lie_there_is_refused_before_the_work(
    toy, song, here, capsys, words, monkeypatch
):
    monkeypatch.setattr("segue.lab.matrix_command.open_checkpoint", None)  # not come to
    before = sorted(path.name for path in here.iterdir())
    line = refused(capsys, "matrix", song, "--model", toy, *FEW, *words)
    assert "cannot be written" in line
    assert sorted(path.name for path in here.iterdir()) == before


def test_takes_of_music_with_the_longest_name_are_written(toy, here, capsys):
    name = "あ" * 83 + ".wav"
    soundfile.write(name, np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)
    few = ("--takes", "1", "--continuation-seconds", "0.2", "--engine", "mlx", "--no-progress")
    quantize = ("--quantize", "--q-bits", "8", "--json")
    code = main(["quality", str(toy), "--audio", name, *few, *quantize, "--save-folder", "takes"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    (take,) = json.loads(out)["audio"]["takes"]
    assert {path.name for path in (here / "takes").iterdir()} == set(take["files"].values())
    for file in take["files"].values():
        assert file.startswith("01-あああ")


def test_a_save_folder_that_is_read_only_is_refused_before_the_work(toy, here, capsys, monkeypatch):
    monkeypatch.setattr("segue.lab.quality.teacher_forced.cache_clip", None)  # not come to
    with small_disk(here / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        line = refused(capsys, "quality", toy, "--engine", "mlx", "--save-folder", disk)
    assert "cannot be written to (Read-only file system)" in line
