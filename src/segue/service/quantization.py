"""Quantization of the models: none, unless the environment or a request sets it.

A request's own `quantization_mode` wins over the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ..checkpoints.recipe import METHODS, PRESETS, PRESETS_METHOD, Recipe, preset
from ..checkpoints.recipe_file import read_recipe
from ..errors import RequestError

SWITCH = "G4L_MLX_QUANTIZE"
BITS = "G4L_MLX_Q_BITS"
GROUP_SIZE = "G4L_MLX_Q_GROUP_SIZE"
SCOPE = "G4L_MLX_Q_SCOPE"
METHOD = "G4L_MLX_Q_METHOD"

_RECIPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}\.json", re.ASCII)

NO_RECIPES: Mapping[str, Path] = MappingProxyType({})

_ON, _OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Quantization:
    """What of a model is quantized.

    Attributes:
        mode: its name: a preset's, or the recipe's own.
        recipe: how; None runs the checkpoint as it is.
        explicit: whether the request named it, so that a checkpoint that cannot be is an error.
    """

    mode: str
    recipe: Recipe | None
    explicit: bool = False


NONE = Quantization("none", None)


def from_environment(environment: Mapping[str, str]) -> Quantization:
    """Read the quantization from environment variables.

    Raises:
        RequestError: a variable holds what nobody can mean, or there is no such quantization.
    """
    switch = environment.get(SWITCH, "").strip().lower()
    if switch not in _ON + _OFF:
        raise RequestError(f"{SWITCH} is 0 or 1, not {environment[SWITCH]!r}")
    recipe = Recipe(
        scope=(environment.get(SCOPE) or Recipe.scope).strip().lower().replace("_", "-"),
        bits=_whole(environment, BITS, Recipe.bits),
        group_size=_whole(environment, GROUP_SIZE, Recipe.group_size),
        method=(environment.get(METHOD) or PRESETS_METHOD).strip().lower(),
    )
    _check_quick(recipe)
    if switch in _OFF:
        return NONE
    named = {known: name for name, known in PRESETS.items()}
    return Quantization(named.get(recipe, recipe.name), recipe)


def recipes_in(folder: Path) -> dict[str, Path]:
    """Find the recipes that requests may name, by what they are called in lower case.

    Args:
        folder: holds `NAME.json`, as `segue recipe` writes them; it need not be there.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return {}
    return {file.stem.lower(): file for file in files if _RECIPE.fullmatch(file.name)}


def _check_quick(recipe: Recipe) -> None:
    """Refuse what would keep whoever waits for a job waiting for minutes.

    Raises:
        RequestError: the method looks at music.
    """
    if METHODS[recipe.method]:
        raise RequestError(
            f"{recipe.method} takes minutes, so no job waits for it: run segue quantize MODEL "
            f"FOLDER --method {recipe.method} once, and name the folder as a model"
        )


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "").strip() or str(default)
    if not value.isascii() or not value.isdigit():
        raise RequestError(f"{name} is a whole number, not {value!r}")
    return int(value)


def chosen(
    mode: str | None, default: Quantization, recipes: Mapping[str, Path] = NO_RECIPES
) -> Quantization:
    """Choose the quantization of a request, or the default where it names none.

    Args:
        mode: as a request has it: a preset's name or that of a recipe, and never a path.
        default: of the service.
        recipes: from `recipes_in`.

    Raises:
        RequestError: there is no such quantization, or the recipe's file makes no sense.
    """
    if mode is None or not mode.strip():
        return default
    try:
        name, recipe = preset(mode)
    except RequestError as error:
        file = recipes.get(mode.strip().lower())
        if file is None:
            named = "".join(f", {name}" for name in recipes)
            raise RequestError(f"{error}{named}") from None
        recipe = read_recipe(file)
        if recipe.plan is not None:  # where it lies is not the clients' business
            recipe = replace(recipe, plan=replace(recipe.plan, file=None))
        name = recipe.name
    if recipe is not None:
        _check_quick(recipe)
    return Quantization(name, recipe, explicit=recipe is not None)
