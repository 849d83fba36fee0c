"""Quantization of the models: none, unless the environment or a request sets it.

A request's own `quantization_mode` wins over the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..checkpoints.recipe import METHODS, PRESETS, PRESETS_METHOD, Recipe, preset
from ..errors import RequestError

SWITCH = "G4L_MLX_QUANTIZE"
BITS = "G4L_MLX_Q_BITS"
GROUP_SIZE = "G4L_MLX_Q_GROUP_SIZE"
SCOPE = "G4L_MLX_Q_SCOPE"
METHOD = "G4L_MLX_Q_METHOD"

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


def chosen(mode: str | None, default: Quantization) -> Quantization:
    """Choose the quantization of a request, or the default where it names none.

    Raises:
        RequestError: there is no such quantization.
    """
    if mode is None or not mode.strip():
        return default
    name, recipe = preset(mode)
    if recipe is not None:
        _check_quick(recipe)
    return Quantization(name, recipe, explicit=recipe is not None)
