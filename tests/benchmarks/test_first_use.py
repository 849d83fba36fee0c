"""The benchmark of the first request: at toy size, where nothing is compiled, and its table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import first_use
from benchmarks.gpu.first_use import COLUMNS, in_process, table


@pytest.mark.slow
def test_a_process_measures_itself_with_caches_of_its_own(tmp_path):
    found = in_process("4-bit", "toy", "", tmp_path)
    assert set(found) == {*COLUMNS, "compiled"}
    assert all(found[column] > 0 for column in COLUMNS)
    assert found["load and first s"] == found["load s"] + found["first column s"]


def test_every_cache_of_the_process_begins_where_it_is_told(tmp_path, monkeypatch):
    said = {}

    def run(command, env, **_):
        said.update(env)
        out = json.dumps(dict.fromkeys(COLUMNS, 1.0) | {"compiled": []})
        return subprocess.CompletedProcess(command, 0, stdout=f"a note\n{out}\n".encode())

    monkeypatch.setenv("MLX_PTX_CACHE_DIR", "/elsewhere")
    monkeypatch.setattr(subprocess, "run", run)
    in_process("float16", "toy", "drums", tmp_path)
    for name in ("XDG_CACHE_HOME", "TMPDIR", "CUDA_CACHE_PATH"):
        assert said[name] == str(tmp_path)
    assert "MLX_PTX_CACHE_DIR" not in said
    assert os.environ["MLX_PTX_CACHE_DIR"] == "/elsewhere"


def test_what_is_later_than_asked_fails_and_is_named(monkeypatch, capsys):
    seconds = iter([6.0, 1.0])

    def measured(weights: str, shape: str, text: str, caches: Path) -> dict[str, object]:
        return dict.fromkeys(COLUMNS, next(seconds)) | {"compiled": ["gather"]}

    monkeypatch.setattr(first_use, "in_process", measured)
    monkeypatch.setattr(sys, "argv", ["first_use", "--weights", "8-bit"])
    with pytest.raises(SystemExit) as ended:
        first_use.main()
    assert ended.value.code == "later than asked: small, 8-bit, fresh"
    printed = capsys.readouterr().out
    assert "| small, 8-bit, fresh | 6.00 |" in printed
    assert "| asked |" in printed


def test_a_row_for_each_process():
    rows = table([("a", dict.fromkeys(COLUMNS, 2.0) | {"compiled": []})]).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| a | 2.00 ")
