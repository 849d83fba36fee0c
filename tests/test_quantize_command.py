"""`segue quantize`: what it writes, what it says, and that what it wrote loads fast."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import segue
from segue.checkpoints.recipe import Recipe
from segue.cli import main

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "load_quantized.py"


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_written_folder_is_a_checkpoint(toy, capsys):
    options = ["--quant-scope", "all-linears", "--q-bits", "8", "--q-group-size", "32"]
    assert main(["quantize", str(toy), "q", *options, "--cast-dtype", "float16"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("q: 1 MB, 25 modules quantized, in ")
    assert "play with it: segue continue PROMPT --model q\n" in out
    block = json.loads(Path("q/config.json").read_text())["quantization"]
    assert block.pop("method")["name"] == "search"
    assert block == {"group_size": 32, "bits": 8, "mode": "affine"}


def test_modules_that_do_not_fit_are_named(toy, capsys):
    assert main(["quantize", str(toy), "q", "--quant-scope", "all-linears"]) == 0
    assert "left as they are, for their rows do not fit: enc_to_dec_proj" in capsys.readouterr().out


def test_json_says_it_all(toy, capsys):
    assert main(["quantize", str(toy), "q", "--q-mode", "mxfp8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["recipe"] == {
        "scope": "decoder-linears",
        "bits": 8,
        "group_size": 32,
        "mode": "mxfp8",
    }
    assert report["output"] == "q"
    assert len(report["quantized_modules"]) == 24
    assert report["left_modules"] == []
    assert 0 < report["bytes"] <= Path("q/model.safetensors").stat().st_size


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_continue_says_what_quantization_ran(toy, song, capsys, engine):
    pytest.importorskip(engine)
    few = ["--prompt-seconds", "0.5", "--output-seconds", "0.6", "--seed", "1", "--json"]

    def played(*options):
        line = ["continue", str(song), "-o", "out.wav", "--engine", engine, *few, *options]
        assert main(line) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["engine"] == engine
        return [report[part] for part in ("recipe", "cast_dtype", "quantization")]

    model = ["--model", str(toy)]
    assert played(*model) == [None, None, None]
    ran = {"bits": 8, "group_size": 32, "mode": "affine", "method": "search"}
    recipe = {"scope": "decoder-linears", **ran}
    ran["modules"] = 24
    how = ["--q-bits", "8", "--q-group-size", "32"]
    assert played(*model, "--quantize", *how) == [recipe, None, ran]
    assert played(*model, "--cast-dtype", "float16") == [None, "float16", None]
    assert main(["quantize", str(toy), "q", *how]) == 0
    capsys.readouterr()
    assert played("--model", "q") == [None, None, ran]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{toy} there", "there: exists already"),
        ("nowhere/at/all q", "there is no folder"),
        ("{toy} q --q-bits 7", "affine cannot have 7 bits"),
        ("{toy} q --q-mode nvfp4 --q-bits 8", "4 bits in groups of 16"),
        ("{toy} there/song.wav/q", "cannot be written"),
        ("{toy}", "required: OUT"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toy, tmp_path, capsys, line, words):
    Path("there").mkdir()
    Path("there/song.wav").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(["quantize", *line.format(toy=toy).split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_saved_is_neither_read_nor_quantized_when_it_is_loaded(toy):
    """How much time that saves, `benchmarks/load_quantized.py` measures."""
    assert main(["quantize", str(toy), "q", "--q-bits", "4"]) == 0
    original = segue.load(str(toy), engine="mlx", recipe=Recipe(bits=4)).engine.load_report
    saved = segue.load("q", engine="mlx").engine.load_report
    assert {"read", "quantize"} <= set(original.seconds)
    assert not {"read", "quantize"} & set(saved.seconds)
    assert sorted(saved.quantized) == sorted(original.quantized)


@pytest.mark.slow
def test_what_was_saved_loads_in_little_more_memory_than_it_takes():
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--megabytes", "150", "--bits", "4", "--runs", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["saved_peak_over_size"] < 1.2
