"""The options that name a recipe: the same in every command that quantizes."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from .checkpoints.recipe import (
    DISTILL_STEPS,
    DISTILLED,
    METHODS,
    POSSIBLE,
    SCOPES,
    SELF_TAKES,
    Calibration,
    Recipe,
    default_method,
    preset,
)
from .checkpoints.recipe_file import names_a_file, read_recipe
from .errors import RequestError

SHORT_NAMES = ("none", "q8", "q4", "q4-emb")
"""What `--recipe` is mostly given; `segue.checkpoints.recipe.preset` knows more."""


def add_recipe_options(parser: argparse.ArgumentParser, switch: bool = True) -> None:
    """Add `--recipe`, and the options that make one up; see `recipe_of`.

    Args:
        parser: of the command.
        switch: whether nothing is quantized without `--recipe` or `--quantize`.
    """
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"what is quantized, by a short name: {', '.join(SHORT_NAMES)}; by a file that segue "
        "recipe wrote; or in detail, with "
        + ("--quantize and " if switch else "")
        + "the options below",
    )
    if switch:
        parser.add_argument(
            "--quantize", action="store_true", help="quantize the weights in memory"
        )
    parser.add_argument(
        "--quant-scope",
        choices=SCOPES,
        help=f"which weights: the layers' and heads', with the embeddings, with the text's "
        f"projection, or all of them (default: {Recipe.scope})",
    )
    parser.add_argument(
        "--q-bits",
        type=int,
        help=f"bits of a weight (default: {Recipe.bits}, or what the mode has)",
    )
    parser.add_argument(
        "--q-group-size",
        type=int,
        help=f"weights that share a scale (default: {Recipe.group_size}, or what the mode has)",
    )
    parser.add_argument("--q-mode", choices=tuple(POSSIBLE), help=f"how (default: {Recipe.mode})")
    _add_method_options(parser)


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        help="how weights are rounded: to the nearest value; to what a search for scales finds "
        "(seconds); by what music shows to matter (gptq, minutes for large models); and with "
        f"scales that are then learned (default: {default_method(Recipe.mode)} where the mode is "
        f"{Recipe.mode}, and with --recipe its own)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="PATH",
        type=Path,
        nargs="+",
        action="extend",
        help="music for the methods that look at some: files and folders",
    )
    parser.add_argument(
        "--self-takes",
        type=int,
        metavar="N",
        help="music that the model makes for itself to be calibrated on, takes of 10 s (default: "
        f"{SELF_TAKES} without --calibrate, else none)",
    )
    parser.add_argument(
        "--calibration-seed", type=int, metavar="SEED", help="of what is drawn of it (default: 0)"
    )
    add_distill_option(parser)


def add_distill_option(parser: argparse.ArgumentParser) -> None:
    """Add `--distill-steps`."""
    parser.add_argument(
        "--distill-steps",
        type=int,
        metavar="N",
        help="steps of training for the methods that end in +distill; how long they take is shown "
        f"(default: {DISTILL_STEPS})",
    )


def recipe_of(options: argparse.Namespace, named_by: str = "--recipe") -> Recipe | None:
    """Return the recipe of `add_recipe_options`; None quantizes nothing.

    Args:
        options: parsed.
        named_by: the option that `options.recipe` comes from, for errors.

    Raises:
        RequestError: there is no such quantization, two are named, or `--quantize` was forgotten.
    """
    details = {
        "--quant-scope": options.quant_scope,
        "--q-bits": options.q_bits,
        "--q-group-size": options.q_group_size,
        "--q-mode": options.q_mode,
    }
    switch = {"--quantize": getattr(options, "quantize", None) or None}
    given = [option for option, value in {**switch, **details}.items() if value is not None]
    music = _calibration_of(options)
    how = [] if options.method is None else ["--method"]
    how += [] if music is None else ["what it is calibrated on"]
    steps = options.distill_steps
    how += [] if steps is None else ["--distill-steps"]
    if options.recipe is not None:
        if given:
            raise RequestError(f"{named_by} and {given[0]} both say what is quantized; drop one")
        named = named_recipe(options.recipe)
        if named is None:
            if how:
                raise RequestError(f"{named_by} {options.recipe} quantizes nothing; drop {how[0]}")
            return None
        return with_method(named, options.method, music, steps)
    if getattr(options, "quantize", True):
        return with_method(complete_recipe(*details.values()), options.method, music, steps)
    given += how
    if given:
        raise RequestError(f"{given[0]} without --quantize quantizes nothing; add --quantize")
    return None


def named_recipe(typed: str) -> Recipe | None:
    """Return the recipe of a preset's name, or in a file that `segue recipe` wrote.

    Not for what comes over a network, which must not name files.

    Raises:
        RequestError: there is no such preset, or the file cannot be read or makes no sense.
    """
    return read_recipe(Path(typed)) if names_a_file(typed) else preset(typed)[1]


def complete_recipe(
    scope: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    mode: str | None = None,
) -> Recipe:
    """Return a recipe with defaults for what is None; a mode that has one size brings it along.

    Raises:
        RequestError: there is no such quantization.
    """
    mode = Recipe.mode if mode is None else mode
    sizes = POSSIBLE.get(mode, {})
    only = len(sizes) == 1
    if bits is None:
        bits = next(iter(sizes)) if only else Recipe.bits
    if group_size is None:
        group_size = sizes[bits][0] if only and bits in sizes else Recipe.group_size
    scope = Recipe.scope if scope is None else scope
    return Recipe(scope, bits, group_size, mode, default_method(mode))


def with_method(
    recipe: Recipe,
    method: str | None,
    music: Calibration | None,
    distill_steps: int | None = None,
) -> Recipe:
    """Return a recipe with another method, with the music that it looks at and its steps.

    Where none are named, they are what the recipe's file says.

    Raises:
        RequestError: there is no such method, or it cannot have this mode or this music.
    """
    method = recipe.method if method is None else method
    if music is None and METHODS.get(method):
        music = recipe.calibration
    if distill_steps is None and method.endswith(DISTILLED):
        distill_steps = recipe.distill_steps
    return replace(recipe, method=method, calibration=music, distill_steps=distill_steps)


def _calibration_of(options: argparse.Namespace) -> Calibration | None:
    """The music that the options name; None where they name none."""
    paths = tuple(map(str, options.calibrate or ()))
    if not paths and options.self_takes is None and options.calibration_seed is None:
        return None
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 - Path's own raises for some names
            raise RequestError(f"--calibrate {path}: no such file or folder")
    return Calibration(paths, options.self_takes, options.calibration_seed or 0)


def method_options(recipe: Recipe) -> list[str]:
    """Return the options that mean a recipe's method and music; none for the mode's default."""
    options = [] if recipe.method == default_method(recipe.mode) else ["--method", recipe.method]
    if recipe.distill_steps is not None:
        options += ["--distill-steps", str(recipe.distill_steps)]
    music = recipe.calibration
    if music is None:
        return options
    if music.paths:
        options += ["--calibrate", *music.paths]
    if music.self_takes is not None:
        options += ["--self-takes", str(music.self_takes)]
    return [*options, "--calibration-seed", str(music.seed)]
