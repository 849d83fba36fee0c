"""`segue quality`: options to a measurement, a measurement to a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...atomic import check_writable
from ...channel import stdout_progress
from ...checkpoints.hub import BUILT_IN
from ...checkpoints.recipe import PRESETS, preset
from ...errors import RequestError
from ...options import (
    TEXT_HELP,
    HelpFormatter,
    add_base_option,
    add_cast_option,
    add_engine_option,
    add_recipe_options,
    recipe_of,
)
from ...terminal import progress_for
from ..files import write_json
from ..variant import Variant
from .measure import measure
from .request import CONTINUATION_SECONDS, SEED, TAKES, QualityRequest


def add_parser(commands: Any) -> None:
    """Add `segue quality`."""
    parser = commands.add_parser(
        "quality",
        help="measure what a quantization costs in quality",
        description="Compare a variant of a checkpoint with the checkpoint as it is: what both "
        "think comes next in real music, how long they play the same, and how different it sounds. "
        "Quantize with --quantize and its options or with --variant, cast with --cast-dtype.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=BUILT_IN,
        help="'built-in', a folder, or a repository of the Hugging Face hub",
    )
    add_base_option(parser)
    add_engine_option(parser)
    parser.add_argument("--variant", metavar="PRESET", help=f"one of {', '.join(PRESETS)}")
    add_cast_option(parser)
    add_recipe_options(parser)
    parser.add_argument(
        "--audio",
        metavar="PATH",
        nargs="+",
        type=Path,
        default=[],
        help="files and folders of music, best some that the model was not trained on (default: "
        "segue's own held-out prompts)",
    )
    parser.add_argument("--text", default="", help=f"for both: {TEXT_HELP}")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first take of each prompt")
    parser.add_argument(
        "--takes", type=int, default=TAKES, help="how often each prompt is played on from"
    )
    parser.add_argument(
        "--continuation-seconds",
        type=float,
        default=CONTINUATION_SECONDS,
        help="for how long",
    )
    parser.add_argument(
        "--save-folder", metavar="FOLDER", type=Path, help="write what was played there, as WAVs"
    )
    parser.add_argument("--report-json", metavar="FILE", type=Path, help="write the report there")
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`segue quality`: check, measure, write, print."""
    variant = variant_of(options)
    if options.report_json is not None:
        check_writable(options.report_json)
    request = QualityRequest(
        variant=variant,
        model=options.model,
        base_model=options.base_model,
        engine=options.engine,
        prompts=options.audio,
        text=options.text,
        seed=options.seed,
        takes=options.takes,
        continuation_seconds=options.continuation_seconds,
        folder=options.save_folder,
    )
    progress = stdout_progress() if options.progress_lines else progress_for(not options.no_progress)
    quality = measure(request, progress).to_json()
    if options.report_json is not None:
        write_json(options.report_json, quality)
    if not options.progress_lines:
        show(quality, options.json)
    return 0


def variant_of(options: argparse.Namespace) -> Variant:
    """What is measured: `--variant` or `--quantize`, after `--cast-dtype`.

    Raises:
        RequestError: there is no such quantization, or two of them.
    """
    recipe = recipe_of(options)
    if options.variant is not None:
        if recipe is not None:
            raise RequestError("--variant and --quantize both say what is quantized; drop one")
        _, recipe = preset(options.variant)
    parts = [options.cast_dtype, recipe.name if recipe else None]
    name = "-".join(part for part in parts if part) or "baseline"
    return Variant(name, options.cast_dtype, recipe)


def show(quality: Mapping[str, Any], as_json: bool = False) -> None:
    """Print what `segue.lab.quality.measure` gave."""
    console = Console()
    if as_json:
        console.out(json.dumps(quality, indent=2), highlight=False)
        return
    console.print(_table(quality))
    for line in _lines(quality):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(quality: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("KL, nats", "95 %", "99 %", "max", "top code", "perplexity"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, kl in quality["kl"].items():
        agreement, perplexity = quality["top1_agreement"][name], quality["perplexity"][name]
        low, high = kl["ci95"]
        table.add_row(
            name.replace("_", " "),
            f"{kl['mean']:.2g}",
            f"{low:.2g} – {high:.2g}",
            *(f"{kl[column]:.2g}" for column in ("p99", "max")),
            f"{agreement['mean']:.1%}",
            f"× {perplexity['ratio']:.4f}",
        )
    return table


def _lines(quality: Mapping[str, Any]) -> list[str]:
    tokens, free, sound = quality["tokens"], quality["free_running"], quality["audio"]
    perplexity, prompts = quality["perplexity"]["overall"], quality["prompts"]
    low, high = perplexity["ci95"]
    takes = len(free["takes"])
    lines = [
        f"{quality['variant']['name']} beside {quality['baseline']['name']} of {quality['model']} "
        f"on {quality['engine']}: "
        f"{tokens['counted']} tokens of {sum(p['seconds'] for p in prompts):.0f} s of music in "
        f"{len(prompts)} {'prompt' if len(prompts) == 1 else 'prompts'}",
        f"perplexity {perplexity['baseline']:.2f}, then {perplexity['variant']:.2f}: "
        f"× {perplexity['ratio']:.4f} ({low:.4f} – {high:.4f})",
        f"plays the same for {free['mean_frames']:.0f} of {free['limit_frames']} frames "
        f"(median {free['median_frames']:.0f}; {free['censored']} of {takes} takes to the end)",
        f"sounds apart by: {_measures(sound)}",
    ]
    if sound["between_seeds"]:
        lines.append(f"as two seeds are by: {_measures(sound['between_seeds'])}")
    lines += [f"note: {note}" for note in quality.get("notes", ())]
    if tokens["bootstrap_blocks"] < _FEW_BLOCKS:
        lines.append("note: too little music for the intervals to mean much; give it more")
    return lines


_FEW_BLOCKS = 10


def _measures(sound: Mapping[str, float]) -> str:
    return (
        f"spectrum {sound['spectral_distance_db']:.2f} dB "
        f"(convergence {sound['spectral_convergence']:.2f}), "
        f"chroma {sound['chroma_similarity']:.3f}, onsets {sound['onset_similarity']:.3f}, "
        f"loudness {sound['loudness_difference_lu']:.2f} LU"
    )
