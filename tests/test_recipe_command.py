"""`segue recipe` on a toy: a file that every door takes, the same each time, resumed, refused."""

import json

import pytest

from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Calibration, Recipe
from segue.checkpoints.recipe_file import read_recipe
from segue.cli import main
from segue.quantization import making
from segue.quantization.units import average_bits, units_of

from .caches import use_cache


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Fewer windows, and a cache of its own."""
    monkeypatch.setattr(making, "WINDOWS", 2)
    monkeypatch.setattr(making, "HELD_OUT_WINDOWS", 1)
    use_cache(tmp_path / "cache", monkeypatch)


def made(toy, path, *options):
    assert main(["recipe", str(toy), "-o", str(path), "--engine", "mlx", *options]) == 0
    return json.loads(path.read_text())


def test_a_recipe_keeps_its_budget_is_the_same_again_and_is_used(
    toy, tmp_path, capsys, monkeypatch
):
    options = ("--budget-bits", "4.6", "--seed", "5", "--method", "nearest")
    document = made(toy, tmp_path / "a.json", *options, "--picture", str(tmp_path / "a.svg"))
    printed = capsys.readouterr().out
    assert "4.5" in printed
    assert "nats a token on held-out music" in printed
    assert "<svg" in (tmp_path / "a.svg").read_text()

    recipe, lm = read_recipe(tmp_path / "a.json"), open_checkpoint(str(toy)).config.lm
    ways = [(unit, recipe.params_of(unit.modules[0])) for unit in units_of(lm)]
    assert document["bits"] == pytest.approx(average_bits(ways), rel=1e-5)
    assert document["bits"] <= 4.6
    assert document["kl"]["measured"] > 0
    assert document["calibration"]["with_text"] == 1
    assert len(document["calibration"]["sha256"]) == 64
    assert document["recipe"]["plan"]["shape"]["layers"] == 2

    (tmp_path / "b").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    made(toy, tmp_path / "b" / "a.json", *options)
    assert (tmp_path / "b" / "a.json").read_bytes() == (tmp_path / "a.json").read_bytes()

    # Known units are not measured again, and what is left is.
    (cache,) = (tmp_path / "another" / "segue" / "recipes").iterdir()
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict(list(known.items())[:7])))
    made(toy, tmp_path / "b" / "a.json", *options)
    assert (tmp_path / "b" / "a.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert json.loads(cache.read_text()) == known

    saved = tmp_path / "q"
    assert main(["quantize", str(toy), str(saved), "--recipe", str(tmp_path / "a.json")]) == 0
    assert open_checkpoint(str(saved)).config.quantization.modules


def test_a_method_that_looks_at_music_is_measured_and_named(toy, tmp_path):
    options = ("--budget-bits", "4.6", "--method", "gptq", "--self-takes", "2")
    document = made(toy, tmp_path / "a.json", *options)
    assert document["method"]["name"] == "gptq"
    assert len(document["method"]["calibration"]) == 64
    recipe = read_recipe(tmp_path / "a.json")
    assert (recipe.method, recipe.calibration) == ("gptq", Calibration((), 2, 0))
    # Units are measured as the method rounds them, and each remembers by which.
    other = made(toy, tmp_path / "b.json", "--budget-bits", "4.6", "--method", "nearest")
    by_method, by_nearest = ([unit["loss"] for unit in d["units"]] for d in (document, other))
    assert 0 < sum(by_method) < 0.9 * sum(by_nearest)
    again = made(toy, tmp_path / "a.json", *options)
    assert again == document


def test_a_plan_can_be_trained(toy, tmp_path, capsys):
    options = ("--budget-bits", "4.6", "--self-takes", "2", "--distill-steps", "3")
    document = made(toy, tmp_path / "a.json", *options, "--method", "search+distill")
    assert document["method"]["name"] == "search+distill"
    assert "distilled in 3 steps" in capsys.readouterr().err
    recipe = read_recipe(tmp_path / "a.json")
    assert (recipe.method, recipe.distill_steps) == ("search+distill", 3)
    line = ["recipe", str(toy), "-o", str(tmp_path / "b.json"), *options, "--method", "search"]
    assert main(line) == 2
    assert "search trains nothing" in capsys.readouterr().err


def test_milliseconds_are_timed_and_recorded(toy, tmp_path, capsys):
    options = ("--budget-kl", "0.5", "--objective", "milliseconds", "--widths", "4", "8")
    document = made(toy, tmp_path / "a.json", *options, "--groups", "32", "64", "--json")
    assert json.loads(capsys.readouterr().out) == document
    assert document["kl"]["measured"] <= 0.5
    assert set(document["step_milliseconds"]["0.fc1"]) == {"4/32", "4/64", "8/32", "8/64"}
    assert set(document["step_milliseconds"]["0.cross_attn.q"].values()) == {0.0}
    assert document["engine"] == "mlx"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name one budget"),
        (["--budget-bits", "4.5", "--budget-kl", "0.1"], "name one budget"),
        (["--budget-bits", "2.1"], "no plan has 2.1 bits a weight: the least is"),
        (["--budget-bits", "4.5", "--widths", "7"], "widths are some of"),
        (["--budget-bits", "4.5", "-o", "recipe.txt"], "ends in .json"),
        (["--budget-bits", "4.5", "--picture", "a.gif"], "ends in .png"),
        (["--budget-bits", "4.5", "--calibrate", "nowhere"], "no such file or folder"),
        (["--budget-bits", "4.5", "--seed", "-1"], "between 0 and 4294967295"),
    ],
)
def test_nonsense_is_one_line_before_anything_runs(
    toy, tmp_path, capsys, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    assert main(["recipe", str(toy), *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_what_is_quantized_is_not_planned(toy, tmp_path, capsys):
    save_quantized(open_checkpoint(str(toy)), Recipe(), tmp_path / "q")
    command = [
        "recipe",
        str(tmp_path / "q"),
        "--budget-bits",
        "4.5",
        "-o",
        str(tmp_path / "r.json"),
    ]
    assert main(command) == 2
    assert "quantized already; plan what it came from" in capsys.readouterr().err
