"""Recipes that a service's requests may name: those in its folder, by name, and no paths."""

import json

import pytest

from segue.checkpoints.config import QuantizationParams
from segue.checkpoints.plan import Plan
from segue.checkpoints.recipe import Recipe
from segue.errors import RequestError
from segue.service.quantization import NONE, chosen, recipes_in
from segue.service.settings import Settings

PLAN = Plan((("decoder.model.decoder.layers.0.fc1", QuantizationParams(8, 64)),), label="mine")


@pytest.fixture
def folder(tmp_path):
    content = {"schema": 1, "recipe": Recipe(method="search", plan=PLAN).to_json()}
    (tmp_path / "recipes").mkdir()
    for name in ("Large-4.5.json", "q4.json", ".hidden.json", "no recipe.json", "notes.txt"):
        (tmp_path / "recipes" / name).write_text(json.dumps(content))
    (tmp_path / "recipes" / "broken.json").write_text("{")
    (tmp_path / "outside.json").write_text(json.dumps(content))
    return tmp_path / "recipes"


def test_a_request_names_a_recipe_of_the_folder(folder):
    recipes = recipes_in(folder)
    found = chosen(" large-4.5 ", NONE, recipes)
    assert found.recipe == Recipe(method="search", plan=PLAN)
    assert found.recipe.plan.file is None
    assert found.explicit
    assert found.mode == found.recipe.name
    assert found.mode.startswith("mine-")


def test_a_preset_is_itself_whatever_lies_in_the_folder(folder):
    assert chosen("q4", NONE, recipes_in(folder)).recipe == Recipe(method="search")


@pytest.mark.parametrize(
    "typed",
    ["../outside", "../outside.json", "large-4.5.json", "recipes/large-4.5", ".hidden", "notes"],
)
def test_paths_and_what_is_no_recipe_are_refused(folder, typed):
    with pytest.raises(RequestError, match=r"no quantization .*large-4\.5"):
        chosen(typed, NONE, recipes_in(folder))
    with pytest.raises(RequestError, match="no quantization"):
        chosen(str(folder / "Large-4.5.json"), NONE, recipes_in(folder))


def test_a_broken_file_is_one_line(folder):
    with pytest.raises(RequestError, match="not JSON, so no recipe"):
        chosen("broken", NONE, recipes_in(folder))


def test_another_plan_of_the_same_name_is_another_model(folder):
    before = chosen("large-4.5", NONE, recipes_in(folder)).mode
    changed = Plan((("decoder.model.decoder.layers.0.fc1", QuantizationParams(3, 64)),))
    content = {"schema": 1, "recipe": Recipe(plan=changed).to_json()}
    (folder / "Large-4.5.json").write_text(json.dumps(content))
    assert chosen("large-4.5", NONE, recipes_in(folder)).mode != before


def test_without_a_folder_there_are_none(tmp_path):
    assert recipes_in(Settings(tmp_path).recipes_folder) == {}
