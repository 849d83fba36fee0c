"""Matrix: rows, what fails, what was stopped, the pick, and the doors."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
import soundfile

from segue.checkpoints.recipe import Calibration, Recipe
from segue.cli import main
from segue.errors import RequestError
from segue.lab.pick import MAX_KL
from segue.lab.quality import measure, request
from segue.lab.quality.report import QualityReport
from segue.lab.rows import DEFAULT, rows_of
from segue.lab.variant import Variant

from ..caches import use_cache

REPOSITORY = Path(__file__).parents[2]
SEGUE = (sys.executable, "-m", "segue")
FEW = ("--prompt-seconds", "0.2", "--output-seconds", "0.4", "--runs", "0", "--engine", "mlx")
TWO = ("--row", "name=baseline", "--row", "name=q8, bits=8")
ROW = {"name", "variant", "status", "error", "bench", "quality", "audio"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    use_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def matrix(toy, song):
    """Runs `segue matrix` on the song; gives the folder and what `matrix.json` says."""

    def matrix(*options, quality=False, code=0, model=toy):
        words = [str(song), "--model", str(model), *FEW, "--out", "m"]
        words += [] if quality else ["--no-quality"]
        assert main(["matrix", *words, *options]) == code
        return Path("m"), read("m")

    return matrix


def read(folder):
    return json.loads((Path(folder) / "matrix.json").read_text())


def modified(folder):
    """When each bench report was written."""
    reports = Path(folder, "rows").glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in reports}


def by_name(content):
    return {row["name"]: row for row in content["rows"]}


def fake_measure(kls, calls=None):
    def measure(wanted, progress, keep):
        if calls is not None:
            how = (tuple(wanted.prompts), wanted.seed, wanted.engine, wanted.text)
            calls.append((wanted.baseline.name, wanted.variant.name, *how))
        kl = kls[wanted.variant.name]
        if isinstance(kl, Exception):
            raise kl
        tables = dict.fromkeys(("tokens", "top1_agreement", "perplexity", "free_running", "audio"))
        return QualityReport(
            model=wanted.model,
            engine=wanted.engine,
            baseline=wanted.baseline,
            variant=wanted.variant,
            seed=wanted.seed,
            text=wanted.text,
            prompts=[],
            judge="full",
            conditions={},
            blocks={},
            kl={"overall": {"mean": kl}},
            **tables,
        )

    return measure


# --- A whole matrix -------------------------------------------------------------------------------


def test_five_rows_with_one_seed_each_in_its_own_process(matrix, song, capsys):
    folder, content = matrix()
    assert set(content) == {
        *("schema", "created", "machine", "versions", "model", "base_model", "prompt", "seed"),
        *("request", "max_kl", "rows", "pick"),
    }
    assert content["schema"] == 1
    assert content["max_kl"] == MAX_KL
    assert content["pick"] is None
    names = ["baseline", "float16", "q8", "q4", "q4-emb"]
    assert [row["name"] for row in content["rows"]] == names
    for row in content["rows"]:
        assert set(row) == ROW
        assert (row["status"], row["error"], row["quality"]) == ("ok", None, None)
        assert row["bench"] == json.loads((folder / "rows" / f"{row['name']}.json").read_text())
        assert row["bench"]["variant"] == row["variant"]
        assert row["bench"]["seed"] == content["seed"]
        assert row["audio"] == {
            "full": f"{row['name']}_full.wav",
            "continuation": f"{row['name']}_continuation.wav",
        }
        for name in row["audio"].values():
            assert soundfile.info(folder / name).samplerate == 44_100
    quantized = [len(row["bench"]["modules"]["quantized"]) for row in content["rows"]]
    assert quantized == [0, 0, 24, 24, 28]
    assert not list(folder.rglob("*.log"))
    out, err = capsys.readouterr()
    assert all(name in out for name in names)
    assert "no pick: quality was not measured" in out
    assert "row 1 of 5: baseline\n" in err
    assert "row 5 of 5: q4-emb (about" in err


def test_an_empty_row_is_the_baseline_and_generates_the_same_again(matrix, capsys):
    _, content = matrix("--seed", "3", "--row", "name=a", "--row", "name=b", "--json")
    first, again = content["rows"]
    assert first["bench"]["codes_sha256"] == again["bench"]["codes_sha256"]
    assert json.loads(capsys.readouterr().out) == content


def test_every_option_of_a_request_reaches_the_rows(matrix):
    _, content = matrix(
        *("--text", "-drums, 'fast'", "--top-k", "9", "--temperature", "0.5", "--seed", "7"),
        *("--guidance-coef", "-2", "--prompt-from-end", "--row", "name=only"),
    )
    sampling = content["rows"][0]["bench"]["sampling"]
    assert sampling["text"] == "-drums, 'fast'"
    assert (sampling["top_k"], sampling["temperature"]) == (9, 0.5)
    assert (sampling["guidance_coef"], sampling["prompt_from"]) == (-2, "end")
    assert sampling["guided"]
    assert content["seed"] == content["rows"][0]["bench"]["seed"] == 7


def test_reports_lie_in_a_folder_of_their_own_by_default(toy, song):
    words = [str(song), "--model", str(toy), *FEW, "--no-quality", "--row", "name=a"]
    assert main(["matrix", *words, "--no-progress"]) == 0
    (folder,) = Path("reports").iterdir()
    assert read(folder)["rows"][0]["status"] == "ok"


# --- What fails, and what was stopped -------------------------------------------------------------


def test_a_row_that_fails_has_its_error_and_stops_no_other(toy, matrix, capsys):
    assert main(["quantize", str(toy), "stored-q8", "--q-bits", "8"]) == 0
    rows = ("--row", "name=again, bits=4", "--row", "name=as-it-is")
    folder, content = matrix(*rows, model="stored-q8")
    again, fine = content["rows"]
    assert again["status"] == "failed"
    assert "quantized already" in again["error"]
    assert (again["bench"], again["audio"]) == (None, None)
    assert fine["status"] == "ok"
    assert len(fine["bench"]["modules"]["quantized"]) == 24
    assert (folder / "rows" / "again.log").exists()
    assert "again: " in capsys.readouterr().out


def test_a_matrix_of_nothing_but_failures_is_an_error(toy, matrix, capsys):
    assert main(["quantize", str(toy), "stored-q8", "--q-bits", "8"]) == 0
    matrix("--row", "name=again, bits=4", model="stored-q8", code=2)
    assert capsys.readouterr().err.splitlines()[-1].startswith("segue: no row could be run")


def test_a_killed_matrix_resumes_where_it_was(toy, song):
    three = [*TWO, "--row", "name=q4, bits=4"]
    words = [str(song), "--model", str(toy), *FEW, *three, "--no-quality", "--out", "m"]
    running = subprocess.Popen([*SEGUE, "matrix", *words], stderr=subprocess.DEVNULL)
    wait_for(Path("m/rows/baseline.json"))
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = modified("m")
    assert {"baseline"} <= set(before) < {"baseline", "q8", "q4"}
    assert main(["matrix", "--resume", "m"]) == 0
    content = read("m")
    assert [row["status"] for row in content["rows"]] == ["ok"] * 3
    assert modified("m")["baseline"] == before["baseline"]
    assert len({row["bench"]["seed"] for row in content["rows"]}) == 1
    assert not list(Path("m").rglob("*.log"))


def test_ctrl_c_prints_how_to_resume(toy, song):
    words = [str(song), "--model", str(toy), *FEW, "--no-quality", "--out", "m"]
    running = subprocess.Popen(
        [*SEGUE, "matrix", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(Path("m/rows/baseline.json"))
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.splitlines()[-2:] == ["segue: go on with: segue matrix --resume m", "segue: stopped"]
    assert read("m")["rows"][0]["status"] in ("ok", "missing")
    assert len(read("m")["rows"]) == 5


def test_a_row_whose_files_are_damaged_is_run_again(matrix, capsys):
    folder, content = matrix(*TWO)
    (folder / "rows" / "q8.json").write_text("{")
    before = modified(folder)
    assert main(["matrix", "--resume", str(folder)]) == 0
    after = modified(folder)
    assert {name for name in after if after[name] != before[name]} == {"q8"}
    (folder / "baseline_full.wav").unlink()
    assert main(["matrix", "--resume", str(folder)]) == 0
    assert modified(folder)["q8"] == after["q8"]
    again = read(folder)
    for old, new in zip(content["rows"], again["rows"], strict=True):
        assert new["status"] == "ok"
        assert new["bench"]["codes_sha256"] == old["bench"]["codes_sha256"]
    # What is done may be stored at an address, which is not part of the matrix.
    to = "memory://bucket/matrix"
    capsys.readouterr()
    assert main(["matrix", "--resume", str(folder), "-o", to]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == to
    store = fsspec.filesystem("memory")
    names = {name.removeprefix("/bucket/matrix/") for name in store.find("/bucket/matrix")}
    here = (path for path in folder.rglob("*") if path.is_file())
    assert names == {path.relative_to(folder).as_posix() for path in here}
    assert main(["matrix", "--resume", str(folder), "-o", to]) == 2
    assert capsys.readouterr().err == f"segue: {to}: exists already; name a new folder\n"


def test_all_rows_run_on_the_engine_of_the_first(toy, song):
    words = [str(song), "--model", str(toy), *FEW[:-2], *TWO, "--no-quality", "--out", "m"]
    assert main(["matrix", *words, "--engine", "mlx"]) == 0
    content = read("m")
    content["request"]["engine"] = "auto"
    Path("m/matrix.json").write_text(json.dumps(content))
    Path("m/rows/q8.json").unlink()
    assert main(["matrix", "--resume", "m"]) == 0
    assert [row["bench"]["engine"] for row in read("m")["rows"]] == ["mlx", "mlx"]


def wait_for(path):
    give_up = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# --- Quality and the pick -------------------------------------------------------------------------


def test_quality_is_measured_beside_the_baseline_and_one_is_picked(matrix, monkeypatch, capsys):
    calls: list[Any] = []
    kls = {"q8": 0.001, "baseline": 0.0}
    monkeypatch.setattr(measure, "measure", fake_measure(kls, calls))
    rows = ("--row", "name=q8, bits=8", "--row", "name=baseline")
    folder, content = matrix(*rows, "--seed", "4", "--text", "piano", quality=True)
    assert {row["bench"]["engine"] for row in content["rows"]} == {"mlx"}
    how = ((), 4, "mlx", "piano")
    assert calls == [("baseline", "q8", *how), ("baseline", "baseline", *how)]
    for name, row in by_name(content).items():
        assert row["quality"]["kl"]["overall"]["mean"] == kls[name]
        assert row["quality"] == json.loads((folder / "rows" / f"{name}.quality.json").read_text())
    pick = content["pick"]
    assert set(pick) == {"name", "why", "environment", "command"}
    out = capsys.readouterr().out
    for line in (f"pick: {pick['name']}", *pick["environment"], pick["command"]):
        assert line in out
    calls.clear()
    assert main(["matrix", "--resume", "m", "--max-kl", "0"]) == 0
    assert calls == []
    assert read("m")["pick"]["name"] == "baseline"
    assert read("m")["max_kl"] == 0


@pytest.mark.slow
def test_from_rows_to_a_pick_all_of_it_is_really_measured(matrix, song, monkeypatch):
    short = partial(request.QualityRequest, takes=2, continuation_seconds=0.5)
    monkeypatch.setattr(request, "QualityRequest", short)
    rows = ("--row", "name=baseline", "--row", "name=q2, bits=2, group=32")
    folder, content = matrix(
        *(*rows, "--quality-prompt", str(song), "--max-kl", "1e-6", "--seed", "4"), quality=True
    )
    baseline, q2 = content["rows"]
    assert [row["error"] for row in content["rows"]] == [None, None]
    assert baseline["quality"]["kl"]["overall"]["mean"] == 0
    assert baseline["quality"]["top1_agreement"]["overall"]["mean"] == 1
    assert q2["quality"]["kl"]["overall"]["mean"] > 0.01
    assert q2["quality"]["top1_agreement"]["overall"]["mean"] < 1
    assert q2["quality"]["tokens"]["counted"] > 0
    assert q2["bench"]["memory"]["weights_bytes"] < baseline["bench"]["memory"]["weights_bytes"]
    # However fast it was, a row beyond the budget is none to pick.
    assert content["pick"]["name"] == "baseline"
    assert (folder / "report.html").stat().st_size > 0
    assert main(["matrix", "--resume", str(folder), "--max-kl", "1000"]) == 0
    again = read(folder)
    assert again["rows"] == content["rows"]
    assert again["pick"]["name"] in ("baseline", "q2")


def test_a_matrix_without_a_plain_row_is_measured_beside_one_all_the_same(matrix, monkeypatch):
    calls: list[Any] = []
    monkeypatch.setattr(measure, "measure", fake_measure({"q8": 0.5}, calls))
    _, content = matrix("--row", "name=q8, bits=8", "--quality-prompt", "song.wav", quality=True)
    assert [call[:3] for call in calls] == [("baseline", "q8", (Path("song.wav"),))]
    assert content["pick"] is None


def test_quality_that_cannot_be_measured_is_an_error_of_its_row(matrix, monkeypatch):
    kls = {"baseline": 0.0, "q8": RequestError("no numbers")}
    monkeypatch.setattr(measure, "measure", fake_measure(kls))
    _, content = matrix(*TWO, quality=True)
    q8 = by_name(content)["q8"]
    assert (q8["status"], q8["error"], q8["quality"]) == ("ok", "quality: no numbers", None)
    assert content["pick"]["name"] == "baseline"


# --- Rows -----------------------------------------------------------------------------------------


def test_the_default_rows_are_the_seeds():
    assert rows_of(None, []) == (
        Variant("baseline"),
        Variant("float16", "float16"),
        Variant("q8", None, Recipe("decoder-linears", 8, 64, "affine", "search")),
        Variant("q4", None, Recipe("decoder-linears", 4, 64, "affine", "search")),
        Variant("q4-emb", None, Recipe("decoder-linears+emb", 4, 64, "affine", "search")),
    )


def test_rows_come_from_a_file_and_are_typed(tmp_path):
    file = tmp_path / "rows.toml"
    file.write_text(
        '[[row]]\nname = "plain"\n\n[[row]]\ncast = "float16"\nbits = 8\ngroup = 32\n'
        'scope = "all-linears"\nmode = "affine"\n\n[[row]]\nmode = "nvfp4"\n'
    )
    typed = ["name=q3, bits=3", "cast=bfloat16", "name=q8, recipe=q8", "recipe=none"]
    typed += ["bits=4, method=nearest", "name=gptq3, recipe=q4, method=gptq, self_takes=3"]
    typed += ["name=d, recipe=q4, method=search+distill, distill_steps=9"]
    typed += ["recipe=q4-gptq", "checkpoint=models/large-q4", "bits=4, kv_bits=8"]
    typed += ["bits=4, activations=int8"]
    assert rows_of(file, typed) == (
        Variant("plain"),
        Variant(
            "float16-q8-g32-search-all-linears",
            "float16",
            Recipe("all-linears", 8, 32, method="search"),
        ),
        Variant("q4-g16-nvfp4-decoder-linears", None, Recipe("decoder-linears", 4, 16, "nvfp4")),
        Variant("q3", None, Recipe("decoder-linears", 3, 64, method="search")),
        Variant("bfloat16", "bfloat16"),
        Variant("q8", None, Recipe(bits=8, method="search")),
        Variant("baseline"),
        Variant("q4-g64-decoder-linears", None, Recipe()),
        Variant("gptq3", None, Recipe(method="gptq", calibration=Calibration((), 3))),
        Variant("d", None, Recipe(method="search+distill", distill_steps=9)),
        Variant("q4-g64-gptq-decoder-linears", None, Recipe(method="gptq")),
        Variant("large-q4", checkpoint="models/large-q4"),
        Variant("q4-g64-search-decoder-linears-kv8", None, Recipe(method="search"), None, 8),
        Variant(
            "q4-g64-search-decoder-linears-int8",
            recipe=Recipe(method="search"),
            activations="int8",
        ),
    )


@pytest.mark.parametrize("row", DEFAULT, ids=lambda row: row.name)
def test_a_variant_survives_its_json(row):
    assert Variant.from_json(row.name, json.loads(json.dumps(row.to_json()))) == row


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("bits", "key=value"),
        ("bits=4, bits=8", "each key once"),
        ("bits=four", "bits must be a whole number"),
        ("bits=9", "affine cannot have 9 bits"),
        ("size=3", "no key 'size'; there are name, cast, bits"),
        ("name=../up", "letters, digits"),
        ("name=q8 deluxe", "letters, digits"),
        ("cast=int8", "no cast dtype 'int8'"),
        ("scope=everything", "no scope 'everything'"),
        ("mode=int4", "no mode 'int4'"),
        ("recipe=q9", "no quantization 'q9'"),
        ("method=search", "without anything that is quantized; name bits"),
        ("bits=4, method=best", "no method 'best'"),
        ("bits=4, self_takes=3", "the method search looks at no music"),
        ("checkpoint=a, bits=4", "a runs as it is; leave out what is cast or quantized"),
        ("recipe=q4, bits=8", "recipe and bits both say what is quantized; drop one"),
    ],
)
def test_a_row_that_makes_no_sense_is_one_line(typed, words):
    with pytest.raises(RequestError) as caught:
        rows_of(None, [typed])
    assert words in str(caught.value)
    assert str(caught.value).startswith("--row ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("rows = 3", "[[row]]"),
        ("[row]\nbits = 4", "[[row]]"),
        ("row = [1]", "not a table"),
        ("[[row]]\nbits = 4\n[[row]]\nbits = true", "row 2: bits must be a whole number"),
        ("[[row]]\nname = 4", "name must be text"),
        ("[[row", "not TOML"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(tmp_path, content, words):
    file = tmp_path / "rows.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(RequestError) as caught:
        rows_of(file, [])
    assert words in str(caught.value)
    assert "rows.toml" in str(caught.value)


def test_files_that_rows_name_lie_here_or_beside_the_file_of_rows(tmp_path):
    beside = tmp_path / "beside"
    (beside / "saved").mkdir(parents=True)
    recipe = {"schema": 1, "recipe": Recipe(bits=5).to_json()}
    (beside / "r.json").write_text(json.dumps(recipe))
    (beside / "q4").write_text("no recipe")  # a preset's name means the preset
    (beside / "rows.toml").write_text(
        'row = [{ name = "a", recipe = "r.json" }, { name = "b", recipe = "q4" },'
        '{ name = "c", checkpoint = "saved" }, { name = "d", checkpoint = "who/what" }]'
    )
    found = {row.name: row for row in rows_of(beside / "rows.toml", [])}
    assert found["a"].recipe == Recipe(bits=5)
    assert found["b"].recipe == Recipe(method="search")
    assert [found[name].checkpoint for name in "cd"] == [str(beside / "saved"), "who/what"]

    Path("r.json").write_text(json.dumps(recipe | {"recipe": Recipe(bits=6).to_json()}))
    assert rows_of(beside / "rows.toml", [])[0].recipe == Recipe(bits=6)


def test_names_that_some_file_systems_take_for_one_are_refused():
    with pytest.raises(RequestError, match="two rows have the name 'q8'"):
        rows_of(None, ["name=q8", "name=Q8"])


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "name a prompt"),
        ("missing.wav", "missing.wav: no such file"),
        ("song.wav --model nowhere/at/all", "there is no folder"),
        ("song.wav --max-kl -1", "max-kl must be 0 or more"),
        ("song.wav --max-kl nan", "max-kl must be 0 or more"),
        ("song.wav --runs -1", "runs must lie between 0 and 1000"),
        ("song.wav --row bits=7", "affine cannot have 7 bits"),
        ("song.wav --rows none.toml", "none.toml: cannot be read"),
        ("song.wav --out there", "there: exists already"),
        ("song.wav --quality-prompt none", "none: no such file or folder"),
        ("song.wav --top-k -1", "top-k"),
        ("--resume none", "matrix.json: cannot be read"),
        ("--resume there", "there/matrix.json: not JSON"),
        ("song.wav --resume there", "leave out the prompt"),
        ("--resume there --seed 4", "leave out --seed"),
        ("--resume there --no-quality", "leave out --no-quality"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toy, song, tmp_path, capsys, line, words):
    Path("there").mkdir()
    Path("there/matrix.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    model = [] if "--model" in line or "--resume" in line else ["--model", str(toy)]
    assert main(["matrix", *line.split(), *model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_matrix_of_another_version_is_not_gone_on_with(capsys):
    Path("m").mkdir()
    Path("m/matrix.json").write_text('{"schema": 99}')
    assert main(["matrix", "--resume", "m"]) == 2
    assert "not written by this version" in capsys.readouterr().err


# --- The door -------------------------------------------------------------------------------------


@pytest.fixture
def door(tmp_path):
    """The experiments' folder as a clone has it, so that its reports lie where tests may write."""
    there = tmp_path / "clone" / "experiments" / "mlx_quantization"
    there.mkdir(parents=True)
    source = REPOSITORY / "experiments" / "mlx_quantization" / "run_matrix.sh"
    (there / source.name).write_bytes(source.read_bytes())
    (there / source.name).chmod(source.stat().st_mode)

    def run(*words, **environment):
        done = subprocess.run(
            ["./experiments/mlx_quantization/run_matrix.sh", *map(str, words)],
            cwd=tmp_path / "clone",
            env=os.environ
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            | environment,
            capture_output=True,
            text=True,
        )
        folders = sorted((there / "reports").glob("*"))
        return done, folders

    return run


@pytest.mark.slow
def test_the_experiments_matrix_runs_as_written(door, toy, song, monkeypatch):
    few = {"PROMPT_SECONDS": "0.2", "OUTPUT_SECONDS": "0.4", "RUNS": "0", "NO_QUALITY": "1"}
    settings = {
        "TEXT": "drums, fast",
        "TOP_K": "20",
        "TEMPERATURE": "0.9",
        "GUIDANCE_COEF": "2.5",
        "ALLOW_EMPTY_TEXT_CFG": "1",
    }
    done, (folder,) = door(song, toy, toy, 12345, **few, **settings)
    assert done.returncode == 0, done.stderr
    content = read(folder)
    assert [row["status"] for row in content["rows"]] == ["ok"] * 5
    assert (content["seed"], content["base_model"]) == (12345, str(toy))
    request = content["request"]
    assert (request["text"], request["top_k"], request["temperature"]) == ("drums, fast", 20, 0.9)
    assert (request["guidance_coef"], request["allow_empty_text_cfg"]) == (2.5, True)
    assert len(list(folder.glob("*_full.wav"))) == 5


def test_the_script_prints_its_usage(door):
    done, folders = door("only-a-prompt.wav")
    assert done.returncode == 2
    assert "usage: run_matrix.sh PROMPT MODEL [BASE] [SEED]" in done.stderr
    assert folders == []
    done, _ = door("missing.wav", "built-in", "", "1")
    assert (done.returncode, done.stderr) == (2, "segue: missing.wav: no such file\n")
