"""Bench: what it reports, that it is the same again, and what it writes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from mlx.utils import tree_flatten

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.cli import main
from segue.engine.mlx import MLXEngine
from segue.lab.bench import SCHEMA
from segue.lab.modules import modules_of
from segue.lab.variant import Variant

REPOSITORY = Path(__file__).parents[2]
TIMINGS = [
    "model_load_s",
    "cast_dtype_s",
    "quantize_s",
    "prompt_encode_s",
    "text_encode_s",
    "prefill_s",
    "token_generate_s",
    "decode_full_s",
    "decode_cont_for_save_s",
    "total_s",
]
FEW = ("--prompt-seconds", "0.5", "--output-seconds", "1", "--runs", "1")


@pytest.fixture
def bench(toy, song, tmp_path, monkeypatch, capsys):
    """Runs `segue bench` on the song; gives the report."""
    monkeypatch.chdir(tmp_path)

    def bench(*options, engine="mlx"):
        words = ["--prompt", str(song), "--model", str(toy), "--engine", engine, "--seed", "5"]
        code = main(["bench", *words, *FEW, *map(str, options), "--report-json", "r.json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        bench.printed = out  # type: ignore[attr-defined]
        return json.loads(Path("r.json").read_text())

    return bench


# --- The report -----------------------------------------------------------------------------------


def test_the_report_has_the_parts_that_its_readers_know(bench):
    report = bench("--quantize", "--q-bits", 8)
    assert report["schema"] == SCHEMA == 1
    assert list(report["timings_s"]) == TIMINGS
    assert set(report["speed"]) == {
        "steps_per_s",
        "ms_per_step",
        "real_time_factor",
        "real_time_factor_whole",
    }
    assert report["variant"]["recipe"] == {
        "scope": "decoder-linears",
        "bits": 8,
        "group_size": 64,
        "mode": "affine",
        "method": "search",
    }
    assert (report["engine"], report["seed"]) == ("mlx", 5)
    assert report["shapes"]["codes"] == [4, 50]
    assert report["shapes"]["prompt_frames"] == report["shapes"]["new_frames"] == 25
    assert report["sampling"]["top_k"] == 250
    assert not report["sampling"]["guided"]
    assert {"python", "segue", "mlx", "numpy"} <= set(report["versions"])
    assert {"system", "architecture", "processor", "cores", "memory_bytes"} == set(
        report["machine"]
    )
    assert all(
        report["memory"][name] > 0
        for name in ("process_peak_bytes", "weights_bytes", "step_weights_bytes")
    )
    assert report["timings_s"]["quantize_s"] > 0


def test_every_engine_reports_the_same_things(bench):
    pytest.importorskip("openvino")
    options = ("--quantize", "--cast-dtype", "float16")
    mlx, other = (bench(*options, engine=engine) for engine in ("mlx", "openvino"))
    assert other["engine"] == "openvino"
    assert set(mlx) == set(other)
    for part in ("modules", "shapes", "sampling", "variant"):
        assert mlx[part] == other[part]
    for part in ("model_load_s", "cast_dtype_s", "quantize_s"):
        assert mlx["timings_s"][part] > 0
        assert other["timings_s"][part] > 0
    assert other["memory"]["engine_peak_bytes"] is None


def test_the_first_run_and_the_others_are_separate(bench):
    report = bench("--runs", 3)
    first, steady = report["first_run"], report["steady"]
    assert steady["runs"] == 3
    for kind in ("timings_s", "speed"):
        for name, middle in steady["median"][kind].items():
            assert steady["min"][kind][name] <= middle <= steady["max"][kind][name]
    assert set(first["timings_s"]) == set(steady["median"]["timings_s"])
    assert report["speed"] == steady["median"]["speed"]
    each = sorted(steady["each"]["token_generate_s"])
    ends = [steady[end]["timings_s"]["token_generate_s"] for end in ("min", "median", "max")]
    assert each == ends
    assert report["timings_s"]["prefill_s"] == steady["median"]["timings_s"]["prefill_s"]


def test_one_run_is_called_what_it_is(bench):
    report = bench("--runs", 0)
    assert report["steady"] is None
    assert report["speed"] == report["first_run"]["speed"]
    assert any("only a first run" in note for note in report["notes"])


def test_each_part_is_counted_once_and_where_it_belongs(bench, monkeypatch):
    """By a clock that advances only where the engine works, by the seconds given here."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(seconds, of, name):
        original = getattr(of, name)

        def longer(*arguments, **options):
            now[0] += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(of, name, longer)

    takes(64, Variant, "load")
    takes(1, MLXEngine, "encode")
    takes(2, MLXEngine, "condition")
    takes(4, MLXEngine, "prefill")
    takes(16, MLXEngine, "decode")
    timings = bench("--text", "drums fast", "--decode-continuation", "--save-prefix", "x")
    assert {part: seconds for part, seconds in timings["timings_s"].items() if seconds} == {
        "model_load_s": 64,
        "prompt_encode_s": 1,
        "text_encode_s": 2,
        "prefill_s": 4,
        "decode_full_s": 16,
        "decode_cont_for_save_s": 16,
        "total_s": 103,
    }
    # It is the second run that is reported; the first one took as long.
    assert now[0] - 1000 == 103 + 23


def test_a_text_is_counted_apart_and_brings_a_second_stream(bench):
    report = bench("--text", "drums fast")
    assert report["first_run"]["timings_s"]["text_encode_s"] > 0
    assert report["sampling"]["guided"]
    assert report["shapes"]["streams"] == 2
    plain = bench()
    assert plain["shapes"]["streams"] == 1
    assert plain["memory"]["step_weights_bytes"] < report["memory"]["step_weights_bytes"]


def test_a_text_that_is_too_long_is_noted(bench):
    notes = bench("--text", "drums piano " * 10_000, "--runs", "0")["notes"]
    assert any("its last 19489 words were left out" in note for note in notes)


def test_the_cpu_is_not_taken_for_a_gpu(bench):
    assert any("says nothing about a GPU" in note for note in bench()["notes"])
    assert "says nothing about a GPU" in bench.printed


def test_a_busy_machine_is_named(bench, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 99.0, 99.0))
    assert not any("busy" in note for note in bench()["notes"])
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.1, 0.1))
    assert any("kept the machine busy" in note for note in bench()["notes"])


def test_a_cast_that_changes_nothing_is_named(bench):
    assert (
        "the checkpoint is stored in float32: the cast changes nothing"
        in (bench("--cast-dtype", "float32")["notes"])
    )
    assert not any("cast" in note for note in bench("--cast-dtype", "float16")["notes"])


def test_people_get_a_table_and_programs_json(bench):
    report = bench("--quantize", "--text", "piano")
    for word in ("first run", "second run", "generate", "decode", "ms a step", "peak memory", "GB"):
        assert word in bench.printed
    report = bench("--json")
    assert json.loads(bench.printed) == report


# --- The same again -------------------------------------------------------------------------------


def test_one_seed_is_one_result(bench):
    first = bench("--save-prefix", "a", "--quantize")
    again = bench("--save-prefix", "b", "--quantize")
    assert first["codes_sha256"] == again["codes_sha256"]
    for part in ("full", "continuation"):
        assert Path(f"a_{part}.wav").read_bytes() == Path(f"b_{part}.wav").read_bytes()
    assert bench("--seed", 6, "--quantize")["codes_sha256"] != first["codes_sha256"]
    assert not any("different results" in note for note in first["notes"])


def test_a_bench_generates_what_segue_continue_does(bench, song, toy):
    bench("--save-prefix", "bench")
    words = ["--model", str(toy), "--engine", "mlx", "--seed", "5", *FEW[:-2]]
    assert main(["continue", str(song), "-o", "continued.wav", *words]) == 0
    ours, theirs = (
        soundfile.read(f"{name}.wav", dtype="int32") for name in ("continued", "bench_full")
    )
    assert np.array_equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]


# --- Modules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "cast_dtype"),
    [
        (None, None),
        (Recipe(bits=8), None),
        (Recipe("all-quantizable", 3, 32), "float16"),
        (Recipe("decoder-linears", 4, 32, "mxfp4"), None),
    ],
)
def test_the_bytes_of_weights_are_those_that_mlx_holds(toy, tmp_path, recipe, cast_dtype):
    engine = MLXEngine(open_checkpoint(str(toy)), recipe=recipe, cast_dtype=cast_dtype)
    engine.read_weights()
    weights = dict(tree_flatten(engine.lm.parameters()))
    held = sum(values.nbytes for name, values in weights.items() if not name.startswith("_"))
    modules = modules_of(open_checkpoint(str(toy)), recipe, engine)
    assert modules.weights_bytes == held
    if recipe is not None:
        assert sorted(modules.quantized) == sorted(engine.load_report.quantized)
        assert modules.left == engine.load_report.left
        save_quantized(open_checkpoint(str(toy)), recipe, tmp_path / "q", cast_dtype)
        saved = segue.load(str(tmp_path / "q"), engine="mlx").engine
        on_disk = modules_of(open_checkpoint(str(tmp_path / "q")), None, saved)
        assert on_disk.bytes == modules.bytes
        assert sorted(on_disk.quantized) == sorted(modules.quantized)


def test_modules_that_do_not_fit_are_named(bench):
    report = bench("--quantize", "--quant-scope", "all-quantizable")
    assert report["modules"]["left"] == ["enc_to_dec_proj"]
    assert len(report["modules"]["quantized"]) == 2 * 10 + 4 + 4
    assert "enc_to_dec_proj" in bench.printed


# --- Audio ----------------------------------------------------------------------------------------


def test_the_audio_is_the_user_s_own_and_the_continuation_is_cut_from_it(bench, song):
    report = bench("--save-prefix", "x")
    assert report["audio"] == {"full": "x_full.wav", "continuation": "x_continuation.wav"}
    (full, rate), (rest, _) = (soundfile.read(f"x_{part}.wav") for part in report["audio"])
    own, _ = soundfile.read(song)
    join = report["shapes"]["join_sample"]
    assert rate == 44_100
    np.testing.assert_array_equal(full[:join], own[:join])
    np.testing.assert_array_equal(full[join:], rest)


def test_the_continuation_is_decoded_by_itself_for_those_who_ask(bench):
    report = bench("--save-prefix", "x", "--decode-continuation")
    full, rest = (soundfile.read(f"x_{part}.wav")[0] for part in ("full", "continuation"))
    assert len(rest) == len(full) - report["shapes"]["join_sample"]
    assert not np.array_equal(rest, full[-len(rest) :])
    assert report["timings_s"]["decode_cont_for_save_s"] > 0


def test_the_prompt_may_be_either_end(bench):
    assert bench("--prompt-from-start")["sampling"]["prompt_from"] == "start"
    assert bench("--prompt-from-end")["sampling"]["prompt_from"] == "end"


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--prompt missing.wav", "missing.wav: no such file"),
        ("--model nowhere/at/all", "there is no folder"),
        ("--runs -1", "runs must lie between 0 and 1000"),
        ("--runs 99999999999", "runs must lie between 0 and 1000"),
        ("--q-bits 8", "--q-bits without --quantize"),
        ("--quant-scope all-linears", "--quant-scope without --quantize"),
        ("--quantize --q-bits 7", "affine cannot have 7 bits"),
        ("--quantize --q-mode mxfp4 --q-group-size 64", "4 bits in groups of 32"),
        ("--save-prefix no/such/folder/x", "there is no folder no/such/folder"),
        ("--report-json no/r.json", "there is no folder no"),
        ("--prompt-from-start --prompt-from-end", "not allowed with"),
        ("--seed -1", "seeds lie between"),
        ("--output-seconds 0.1", "nothing to play"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    toy, song, tmp_path, monkeypatch, capsys, options, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = ["--prompt", str(song), "--model", str(toy), *FEW, "--engine", "mlx"]
    outputs = ["--save-prefix", "x", "--report-json", "r.json"]
    assert main(["bench", *base, *outputs, *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == [song]


def test_a_mode_brings_its_own_size(bench):
    recipe = bench("--quantize", "--q-mode", "mxfp4")["variant"]["recipe"]
    assert (recipe["bits"], recipe["group_size"]) == (4, 32)


# --- The door -------------------------------------------------------------------------------------


def test_the_experiments_command_runs_as_written(toy, song, tmp_path):
    """The seeds' second example, with a shorter output."""
    command = f"""
        python experiments/mlx_quantization/bench_quant_continuation.py
          --model {toy}
          --base-model {toy}
          --prompt {song}
          --prompt-seconds 1
          --output-seconds 2
          --quantize
          --quant-scope decoder-linears
          --q-bits 4
          --q-group-size 64
          --q-mode affine
          --seed 12345
          --no-progress
          --prompt-from-end --allow-empty-text-cfg --guidance-coef 2 --top-k 50 --temperature 0.9
          --cast-dtype float16 --runs 1
          --save-prefix {tmp_path}/door --report-json {tmp_path}/door.json
    """.split()
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "door.json").read_text())
    assert report["seed"] == 12345
    assert report["shapes"]["streams"] == 2
    assert len(report["modules"]["quantized"]) == 24
    assert (tmp_path / "door_full.wav").exists()
    assert (tmp_path / "door_continuation.wav").exists()


def test_the_script_fails_like_the_command(tmp_path):
    door = REPOSITORY / "experiments" / "mlx_quantization" / "bench_quant_continuation.py"
    done = subprocess.run(
        [sys.executable, door, "--prompt", "missing.wav"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "segue: missing.wav: no such file\n"


def test_mlx_reports_its_peak_memory(toy):
    engine = MLXEngine(open_checkpoint(str(toy)))
    engine.read_weights()
    assert engine.peak_memory_bytes == mx.get_peak_memory() > 0
