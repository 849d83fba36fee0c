"""`segue recipe`: measure what each layer can do without, and plan its bits."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .atomic import check_writable, writing
from .checkpoints.opening import open_checkpoint
from .checkpoints.recipe import METHODS, Calibration, Recipe
from .errors import OutputError, RequestError
from .model import CPU_ENGINES, engine_for, load
from .options import (
    HelpFormatter,
    add_base_option,
    add_engine_option,
    add_threads_option,
)
from .recipe_options import add_distill_option
from .recipe_picture import check_ending, draw
from .terminal import print_json, print_line, print_table, progress_for

GROUPS, WIDTHS = (32, 64, 128), (2, 3, 4, 5, 6, 8)


def add_parser(commands: Any) -> None:
    """Add `segue recipe`."""
    parser = commands.add_parser(
        "recipe",
        description="Measure how much every part of every layer loses when it is quantized, give "
        "each as many bits as lose least under a budget, measure the whole on music that was held "
        "out, and write a recipe for --recipe.  Stopped, it goes on where it was.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="'built-in', a folder, a repository of the hub, or an address such as s3://bucket/x",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, default=Path("recipe.json"), help="the recipe"
    )
    _add_goal_options(parser)
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="search",
        help="how weights are rounded, when the plan is measured and when the recipe is used",
    )
    parser.add_argument(
        "--calibrate",
        metavar="PATH",
        type=Path,
        nargs="+",
        action="extend",
        help="music to measure on, files and folders; NAME.txt beside NAME.wav describes it",
    )
    parser.add_argument(
        "--self-takes",
        type=int,
        metavar="N",
        help="music that the model makes for itself instead, takes of 10 s",
    )
    parser.add_argument("--seed", type=int, default=0, help="of these takes, 0 to 4294967295")
    add_distill_option(parser)
    add_base_option(parser)
    add_engine_option(parser)
    add_threads_option(parser)
    parser.add_argument(
        "--picture",
        metavar="FILE",
        type=Path,
        help="draw the plan, layers by parts, as PNG or SVG (needs the extra 'pictures')",
    )
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument("--json", action="store_true", help="print the recipe as JSON")
    parser.set_defaults(run=run)


def _add_goal_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget-bits",
        type=float,
        metavar="B",
        help="bits a weight on average, with scales and biases: the least loss is looked for",
    )
    parser.add_argument(
        "--budget-kl",
        type=float,
        metavar="X",
        help="nats a token that may be lost: the fewest bits are looked for",
    )
    parser.add_argument(
        "--objective",
        choices=("nats", "bits", "milliseconds"),
        help="what is to be least; milliseconds of a step on this machine go with --budget-kl "
        "(default: what the budget is not of)",
    )
    parser.add_argument(
        "--cross-bits",
        type=int,
        default=4,
        metavar="N",
        help="fewest bits of cross-attention, which a measurement without text knows nothing of",
    )
    parser.add_argument(
        "--widths", type=int, nargs="+", default=list(WIDTHS), metavar="N", help="bits to use"
    )
    parser.add_argument(
        "--groups", type=int, nargs="+", default=list(GROUPS), metavar="N", help="groups to use"
    )


def run(options: argparse.Namespace) -> int:
    """Run `segue recipe`."""
    progress = progress_for(not options.no_progress)
    for path in (options.output, options.picture):
        if path is not None:
            check_writable(path)
    if options.output.suffix.lower() != ".json":
        raise RequestError(f"{options.output}: a recipe's name ends in .json")
    if options.picture is not None:
        check_ending(options.picture)
    # Imported here, because it is MLX that quantizes, whatever engine runs the result.
    from .checkpoints.quantize import quantized
    from .quantization.calibration import CalibrationSet
    from .quantization.losses import Options
    from .quantization.making import RecipeRequest, Sources, make_recipe
    from .quantization.planning import Goal
    from .quantization.preparation import quantize_with

    paths = tuple(map(str, options.calibrate or ()))
    for path in options.calibrate or ():
        if not path.exists():
            raise RequestError(f"--calibrate {path}: no such file or folder")
    request = RecipeRequest(
        name=options.model,
        goal=Goal(options.budget_bits, options.budget_kl, options.objective),
        options=Options(tuple(options.widths), tuple(options.groups), options.cross_bits),
        music=Calibration(paths, options.self_takes, options.seed),
        method=options.method,
        distill_steps=options.distill_steps,
        label=_label(options.output),
    )
    engine = engine_for(options.engine)

    def opened() -> Any:
        return open_checkpoint(options.model, options.base_model, progress)

    @cache
    def loaded() -> Any:
        return load(
            options.model,
            base_model=options.base_model,
            engine=engine,
            threads=options.threads if engine in CPU_ENGINES else None,
            progress=progress,
        ).engine

    def view(recipe: Recipe, music: CalibrationSet) -> Any:
        if METHODS[recipe.method]:
            return quantize_with(opened(), recipe, music, progress=progress, say=say)
        return quantized(opened(), recipe)

    say = Console(stderr=True).print if not options.json else lambda line: None
    sources = Sources(
        opened=opened,
        quantized=view,
        engine=loaded,
        engine_name=engine,
        threads=options.threads,
    )
    document = make_recipe(request, sources, progress, say) | {"version": version("segue")}
    with writing(options.output) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.picture is not None:
        _draw(document, options.picture)
    if options.json:
        print_json(document)
    else:
        _show(document, options.output)
    return 0


def _label(output: Path) -> str:
    """The file's name as a label: what is no letter, digit, '.', '+' or '-' becomes '-'."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in ".+-") else "-" for c in output.stem)
    return plain.lstrip(".+-")[:40]


def _draw(document: Mapping[str, Any], path: Path) -> None:
    try:
        draw(document, path)
    except ImportError:
        raise OutputError(
            f"{path}: drawing needs matplotlib; pip install 'segue[pictures]'"
        ) from None


def _show(document: Mapping[str, Any], output: Path) -> None:
    """Print the plan, layers by parts, and what it comes to."""
    cells, parts, layers = table_of(document)
    table = Table("layer", *parts, box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for layer in layers:
        table.add_row(layer, *(cells.get((layer, part), "") for part in parts))
    print_table(table)
    kl, heads = document["kl"], cells["", "heads"]
    print_line(f"heads {heads}; each is bits/weights that share a scale")
    milliseconds = document.get("milliseconds")
    print_line(
        f"{document['bits']:.3f} bits a weight, {kl['measured']:.3g} nats a token on held-out "
        f"music ({kl['predicted']:.3g} predicted), {document['method']['name']}"
        + (f", {milliseconds:.3g} ms a step for products" if milliseconds is not None else "")
    )
    name = shlex.quote(str(output))
    print_line(
        f"use it: segue quantize {shlex.quote(document['model']['name'])} OUT --recipe {name}"
    )


def table_of(
    document: Mapping[str, Any],
) -> tuple[dict[tuple[str, str], str], list[str], list[str]]:
    """Return a plan as a table.

    Returns:
        `bits/group` by layer and part, the heads' under no layer; the parts of layers; the layers.
    """
    cells, parts, layers = {}, dict[str, None](), dict[str, None]()
    for unit in document["units"]:
        layer, dot, part = unit["unit"].partition(".")
        layer, part = (layer, part) if dot else ("", layer)
        cells[layer, part] = f"{unit['bits']}/{unit['group_size']}"
        if dot:
            parts[part] = layers[layer] = None
    return cells, list(parts), list(layers)
