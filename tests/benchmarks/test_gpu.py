"""The GPU benchmark at toy size: every row that needs no torch, and the table."""

import json
import sys

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import phases, primitives
from segue.engine.mlx import kernels
from segue.engine.mlx.kernels import layer


@pytest.mark.slow
def test_rows_alternate_and_make_a_table(tmp_path, monkeypatch, capsys):
    rows = ["segue 8-bit", "plain MLX loop", "torch CUDA graph"]
    monkeypatch.setitem(gpu.WORKERS, "segue 8-bit", ("", "guided"))
    out = tmp_path / "gpu.json"
    arguments = ["--shapes", "toy", "--rounds", "1", "--prompt", "0.4", "--seconds", "1.8"]
    arguments += ["--steps", "5", "--out", str(out), "--rows", *rows]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    gpu.main()
    entries = json.loads(out.read_text())
    assert [entry["row"] for entry in entries] == rows
    segue, plain, torch = entries
    assert set(segue["runs"]) == {"", "guided"}
    assert segue["runs"][""][0]["ms a step"] > 0
    assert segue["runs"][""][0]["end to end s"] > segue["runs"][""][0]["decode s"]
    assert plain["runs"][""][0]["ms a step"] > 0
    assert torch["runs"] or "torch" in torch["failed"]  # it may not be installed
    printed = capsys.readouterr().out
    assert "| toy | segue 8-bit, guided |" in printed


def entry(row, *steps, **more):
    return {
        "shape": "small",
        "row": row,
        "runs": {"": [{"ms a step": s} for s in steps]} if steps else {},
    } | more


def test_a_row_of_a_later_run_takes_the_place_of_an_earlier_one():
    first = [entry("segue 4-bit", 1.0), entry("transformers", 5.0)]
    second = [entry("segue 4-bit", 2.0, 3.0), entry("transformers", failed="out of memory")]
    assert gpu.latest([first, second]) == [second[0], first[1]]
    assert gpu.latest([second, first]) == first


@pytest.mark.parametrize("text", [None, "", "no JSON", "[1]", '[{"shape": "small"}]'])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, monkeypatch, capsys, text):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["gpu", "--merge", str(path)])
    with pytest.raises(SystemExit) as refused:
        gpu.main()
    assert refused.value.code == 2
    assert "--merge takes what --out wrote" in capsys.readouterr().err.splitlines()[-1]


def test_a_place_that_is_not_there_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "measured", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "none" / "gpu.json")])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "there is no folder" in capsys.readouterr().err


def test_tables_tell_what_failed():

    made = gpu.table(
        [
            entry("segue 4-bit", 1.0, 3.0, 2.0, **{"bytes": 10, "bytes per second": 10_000}),
            entry("segue 8-bit", 1.0, failed="out of memory"),
            entry("transformers", failed="not done in 2 s"),
        ]
    )
    assert "| small | segue 8-bit, guided | out of memory |" in made
    assert "| small | segue 4-bit | 2.00 | 10.0 |" in made
    assert "| 0.50 | 3 |" in made
    assert "not done in 2 s" in made


def test_kernels_leave_a_step_few_primitives():
    layers, few = 24, []
    for on in (frozenset(), kernels.wanted("all")):
        found, _ = primitives.step_of(layers, 1, False, 4, on, compiled=True)
        few.append(primitives.launches(found))
    assert few[1] == 3
    assert few[1] < few[0] <= 17 * layers
    _, parts = primitives.step_of(layers, 1, True, 4, kernels.wanted("all"), compiled=False)
    assert parts["layers"] == 1
    assert parts["sampling"] == parts["embedding"] == 1


def test_phases_are_noted_around_every_barrier_of_the_layer():
    source, functions = phases.noting(layer.SOURCE, layer.FUNCTIONS, 64)
    assert "scratch + 64" in source
    assert source.rstrip().endswith("note();")
    head, barrier, rest = functions.partition(phases.BARRIER)
    assert "void note()" in head
    assert barrier
    body = rest.partition("\n}\n")[0].strip()
    assert body.startswith("note();")
    assert body.endswith("note();")
    assert functions.count("note();") == 2
