"""Recipes in files: what `segue recipe` writes, and every `--recipe FILE` reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .recipe import Recipe

SCHEMA = 1
MAX_BYTES = 16 << 20
"""Of a file; that of the largest MusicGen has a hundredth of it."""


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Return the content of a recipe's file.

    Raises:
        RequestError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RequestError(f"{path}: too large for a recipe")
        found = json.loads(content)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path}: not JSON, so no recipe") from None
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        raise RequestError(f"{path}: no recipe; make one with segue recipe MODEL -o {path.name}")
    if found.get("schema") != SCHEMA:
        raise RequestError(
            f"{path}: a recipe of schema {found.get('schema')!r}, and this version reads {SCHEMA}"
        )
    return found


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a file; its plan knows the file.

    Raises:
        RequestError: the file cannot be read, or makes no sense.
    """
    found = read_recipe_file(path)
    try:
        recipe = Recipe.from_json(found["recipe"])
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    if recipe.plan is None:
        return recipe
    return replace(recipe, plan=replace(recipe.plan, file=str(path)))


def names_a_file(typed: str) -> bool:
    """Tell whether what a user typed is the path of a recipe, rather than a preset's name."""
    return typed.lower().endswith(".json") or "/" in typed or "\\" in typed
