"""`segue merge` and `--adapter`: what they write and say."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue.cli import main

GOLDEN = Path(__file__).parent / "golden"
BASE, ADAPTER = str(GOLDEN / "mono"), str(GOLDEN / "adapters" / "dora")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)


def played(*options):
    common = ["--prompt-seconds", "0.5", "--output-seconds", "1", "--seed", "1", "--json"]
    assert main(["continue", "song.wav", "-o", "out.wav", *common, *options]) == 0
    samples, _ = soundfile.read("out.wav", dtype="int16")
    Path("out.wav").unlink()
    return samples


def test_a_merged_folder_plays_what_the_adapter_does(capsys):
    with_adapter = played("--model", BASE, "--adapter", ADAPTER)
    assert json.loads(capsys.readouterr().out)["adapters"] == [ADAPTER]
    assert main(["merge", BASE, "merged", "--adapter", ADAPTER]) == 0
    assert "play with it: segue continue PROMPT --model merged" in capsys.readouterr().out
    # The codec's weights are divided by their lengths once more, so a sample may be rounded anew.
    assert np.abs(played("--model", "merged").astype(int) - with_adapter).max() <= 1
    assert not np.array_equal(played("--model", BASE), with_adapter)


def test_the_report(capsys):
    assert main(["merge", BASE, "merged", "--adapter", f"{ADAPTER}:0.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["adapters"] == [{"name": ADAPTER, "scale": 0.5}]
    assert report["bytes"] > 0


def test_bad_input_is_one_line_and_leaves_nothing(capsys):
    Path("there").mkdir()
    for words in (["there", "--adapter", ADAPTER], ["out", "--adapter", "nowhere/"], ["out", "x"]):
        assert main(["merge", BASE, *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not Path("out").exists()
    assert not list(Path("there").iterdir())
