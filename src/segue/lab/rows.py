"""The rows of a matrix: the default ones, and those that people write."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.recipe import PRESETS, Calibration, Recipe
from ..checkpoints.recipe_file import names_a_file
from ..errors import RequestError
from ..recipe_options import complete_recipe, named_recipe, with_method
from .variant import BASELINE, Variant, name_of

DEFAULT = (
    BASELINE,
    Variant("float16", cast_dtype="float16"),
    Variant("q8", recipe=PRESETS["q8_decoder_linears"]),
    Variant("q4", recipe=PRESETS["q4_decoder_linears"]),
    Variant("q4-emb", recipe=PRESETS["q4_decoder_linears_emb"]),
)

_TYPES: Mapping[str, type] = {
    "name": str,
    "cast": str,
    "bits": int,
    "group": int,
    "scope": str,
    "mode": str,
    "recipe": str,
    "method": str,
    "calibrate": str,
    "self_takes": int,
    "calibration_seed": int,
    "distill_steps": int,
    "checkpoint": str,
    "kv_bits": int,
    "activations": str,
}


def rows_of(file: Path | None, typed: Sequence[str]) -> tuple[Variant, ...]:
    """Return the rows of a TOML file, then those that were typed; without any, the default ones.

    Args:
        file: holds a table `[[row]]` for each, with the keys of `_TYPES`, all of them optional.
            Files that rows name lie here, or beside it.
        typed: such as `"name=q4, bits=4, group=64"` or `"recipe=q4"`.

    Raises:
        RequestError: the file cannot be read, a row makes no sense, or two have the same name.
    """
    rows = [] if file is None else _read(file)
    rows += [_variant(_typed(text), f"--row {text!r}") for text in typed]
    if file is None and not typed:
        return DEFAULT
    names = [row.name for row in rows]
    # On most laptops, files whose names differ in case alone are one.
    folded = [name.casefold() for name in names]
    if twice := [name for name in names if folded.count(name.casefold()) > 1]:
        raise RequestError(f"two rows have the name {twice[0]!r}; give each its own")
    return tuple(rows)


def _read(file: Path) -> list[Variant]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise RequestError(f"{file}: not TOML ({error})") from None
    tables = content.get("row")
    if not isinstance(tables, list) or not tables or set(content) != {"row"}:
        raise RequestError(f"{file}: write a table [[row]] for each row, and nothing else")
    tables = [_resolved(table, file.parent) for table in tables]
    return [_variant(table, f"{file}, row {n}") for n, table in enumerate(tables, 1)]


def _resolved(table: Any, folder: Path) -> Any:
    """A row whose files are found: beside the file of rows, where there are none of that name here.

    What is found nowhere stays as it was written, as do names of presets and of repositories.
    """
    if not isinstance(table, dict):
        return table
    found = dict(table)
    for key in ("recipe", "calibrate", "checkpoint"):
        path = found.get(key)
        if not isinstance(path, str) or not path or os.path.lexists(path):
            continue
        if key == "recipe" and not names_a_file(path):
            continue
        if os.path.lexists(beside := folder / path):
            found[key] = str(beside)
    return found


def _typed(text: str) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or key in entry:
            raise RequestError(f"--row {text!r}: write key=value, … with each key once")
        entry[key] = int(value) if _TYPES.get(key) is int and value.isdecimal() else value
    return entry


def _variant(entry: Any, where: str) -> Variant:
    if not isinstance(entry, dict):
        raise RequestError(f"{where}: not a table")
    for key, value in entry.items():
        if key not in _TYPES:
            raise RequestError(f"{where}: no key {key!r}; there are {', '.join(_TYPES)}")
        if type(value) is not _TYPES[key]:
            what = "a whole number" if _TYPES[key] is int else "text"
            raise RequestError(f"{where}: {key} must be {what}, not {value!r}")
    details = {key: entry.get(key) for key in ("scope", "bits", "group", "mode")}
    given = [key for key, value in details.items() if value is not None]
    cast, named, checkpoint = entry.get("cast"), entry.get("recipe"), entry.get("checkpoint")
    kv, activations = entry.get("kv_bits"), entry.get("activations")
    try:
        recipe = complete_recipe(*details.values()) if given else None
        if named is not None:
            if given:
                raise RequestError(f"recipe and {given[0]} both say what is quantized; drop one")
            recipe = named_recipe(named)
        recipe = _with_method(entry, recipe)
        if checkpoint is not None:
            name = entry.get("name", Variant.of_checkpoint(checkpoint).name)
            return Variant(name, cast, recipe, checkpoint, kv, activations)
        name = entry.get("name", name_of(cast, recipe, kv, activations))
        return Variant(name, cast, recipe, None, kv, activations)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None


def _with_method(entry: Mapping[str, Any], recipe: Recipe | None) -> Recipe | None:
    """The recipe with a row's method, the music that this looks at, and its steps."""
    method, path = entry.get("method"), entry.get("calibrate")
    takes, seed = entry.get("self_takes"), entry.get("calibration_seed")
    music = None
    if any(value is not None for value in (path, takes, seed)):
        music = Calibration(() if path is None else (path,), takes, seed or 0)
    steps = entry.get("distill_steps")
    if recipe is not None:
        return with_method(recipe, method, music, steps)
    if any(value is not None for value in (method, music, steps)):
        raise RequestError("a method, or its music, without anything that is quantized; name bits")
    return None
