"""Recipes in files, on every door."""

import json

import pytest

import segue
from segue.checkpoints.config import QuantizationParams
from segue.checkpoints.plan import Plan, PlanShape
from segue.checkpoints.recipe import Recipe
from segue.checkpoints.recipe_file import read_recipe
from segue.cli import main, make_parser
from segue.errors import RequestError
from segue.lab.rows import rows_of
from segue.recipe_options import recipe_of

FC1 = "decoder.model.decoder.layers.0.fc1"
RECIPE = Recipe(plan=Plan(((FC1, QuantizationParams(8, 64)),)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"schema": 1, "recipe": RECIPE.to_json()}))
    return path


def test_a_file_stands_where_a_name_does(file, tmp_path, toy):
    assert read_recipe(file) == RECIPE
    options = make_parser().parse_args(["quantize", "m", "out", "--recipe", str(file)])
    assert recipe_of(options) == RECIPE
    (row,) = rows_of(None, [f"name=planned, recipe={file}"])
    assert row.recipe == RECIPE
    assert row.options() == ["--recipe", str(file), "--method", "nearest"]
    rows = tmp_path / "rows.toml"
    rows.write_text(f'[[row]]\nname = "a"\nrecipe = "{file}"\nmethod = "search"\n')
    assert rows_of(rows, [])[0].recipe.method == "search"
    engine = segue.load(str(toy), recipe=str(file)).engine
    assert engine.config.quantization.of(FC1) == QuantizationParams(8, 64)


def test_quantize_writes_what_the_file_says(file, toy, tmp_path, capsys):
    assert main(["quantize", str(toy), str(tmp_path / "q"), "--recipe", str(file)]) == 0
    block = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert block[FC1] == {"bits": 8, "group_size": 64, "mode": "affine"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "no recipe"),
        ('{"schema": 9, "recipe": {}}', "schema 9"),
        ('{"schema": 1, "recipe": {"bits": 7}}', "7 bits"),
        ('{"schema": 1, "recipe": {"bits": "many"}}', ""),
        ('{"schema": 1, "recipe": {"plan": {"modules": {"x": 1}}}}', "x: a plan says"),
    ],
)
def test_what_is_no_recipe_is_one_line(tmp_path, content, words):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RequestError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_for_another_shape_is_refused_on_the_command_line(toy, tmp_path, capsys):
    plan = Plan(RECIPE.plan.modules, PlanShape(48, 2048, 8192, 4, 2048))
    (tmp_path / "r.json").write_text(
        json.dumps({"schema": 1, "recipe": Recipe(plan=plan).to_json()})
    )
    command = ["quantize", str(toy), str(tmp_path / "q"), "--recipe", str(tmp_path / "r.json")]
    assert main(command) == 2
    assert "this plan is for a model of 48 layers" in capsys.readouterr().err
