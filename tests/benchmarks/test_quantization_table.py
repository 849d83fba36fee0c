"""The table of methods and recipes on a toy: by segue's own commands, resumed step by step."""

import json

import numpy as np
import pytest
import soundfile

from benchmarks import quantization_table
from benchmarks.quantization_table import Row, Work, markdown
from segue.cli import main
from segue.quantization import making
from segue.quantization.methods import VERSIONS

ROWS = (
    Row("q4", "4 bits", "nearest", None),
    Row("recipe-4.5", "planned", "search", 0.9, ("--budget-bits", "4.6", "--widths", "4", "5")),
    Row("again", "planned", "nearest", None, ("--budget-bits", "4.6"), "recipe-4.5"),
    Row("learned", "planned", "none such", 0.3, ("--budget-bits", "4.6"), "recipe-4.5"),
)


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, 16_000), 16_000)
    return path


@pytest.fixture
def table(toy, song, tmp_path, monkeypatch):
    """Makes the table in a folder; gives it and the commands that were run."""
    monkeypatch.setattr(making, "WINDOWS", 2)
    monkeypatch.setattr(making, "HELD_OUT_WINDOWS", 1)
    quality = ["--quality-prompt", str(song), "--variations", "1", "--engine", "mlx"]
    quality += ["--prompt-seconds", "0.2", "--output-seconds", "0.4"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))

    def made(stop_before=None):
        commands = []

        def run(words, environment):
            if words[0] == stop_before:
                raise KeyboardInterrupt
            commands.append(words[0])
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                assert main([*words, *(["--engine", "mlx"] if words[0] == "recipe" else [])]) == 0

        work = Work(tmp_path / "t", str(toy), quality, (), ROWS, run)
        return work.measured(), commands

    return made


def test_every_step_is_a_command_that_is_run_once(table, tmp_path, monkeypatch, capsys):
    with pytest.raises(KeyboardInterrupt):
        table(stop_before="quality")
    found, commands = table()
    # The first row's checkpoint was there.
    assert commands == ["quality", "recipe", "quantize", "quality", "quantize", "quality"]
    assert [row["name"] for row in found["rows"]] == ["q4", "recipe-4.5", "again"]
    assert found["time"]["seconds"] > 0
    again, commands = table()
    assert (commands, again["rows"]) == ([], found["rows"])

    monkeypatch.setitem(VERSIONS, "search", 99)
    remade, commands = table()
    assert commands.count("recipe") == 1
    assert remade["rows"][0] == found["rows"][0]
    # Integers of the same version are the same.
    assert remade["rows"][1]["kl"] == found["rows"][1]["kl"]


def test_asked_and_found_stand_side_by_side(table, tmp_path, capsys):
    found, _ = table()
    text = markdown(found)
    first, second, third = text.splitlines()[2:5]
    assert first.startswith("| 4 bits | nearest | 4.50 |")
    assert "| 1.000 | – |" in first
    ratio = found["rows"][1]["kl"] / found["rows"][0]["kl"]
    assert f"| {ratio:.3f} | ≤ 0.9 |" in second
    assert third.startswith("| planned | nearest |")
    assert "learned is left out" in text
    (tmp_path / "table.json").write_text(json.dumps(found))
    capsys.readouterr()
    quantization_table.printed(tmp_path / "table.json")
    assert capsys.readouterr().out == text
