"""`segue quality`: options to a measurement, a measurement to a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...checkpoints.hub import BUILT_IN
from ...checkpoints.recipe import Recipe
from ...errors import RequestError
from ...options import (
    TEXT_HELP,
    HelpFormatter,
    add_base_option,
    add_cast_option,
    add_engine_option,
    add_output_options,
    add_recipe_options,
    recipe_of,
    report_file_of,
)
from ...outputs import write_json
from ...terminal import print_json, print_line, progress_for
from ..variant import Variant, name_of
from .measure import measure
from .request import CONTINUATION_SECONDS, SEED, SHORTEST_CONTINUATION, TAKES, QualityRequest


def add_parser(commands: Any) -> None:
    """Add `segue quality`."""
    parser = commands.add_parser(
        "quality",
        help="measure what a quantization costs in quality",
        description="Compare a variant of a checkpoint with the checkpoint as it is: what both "
        "predict next in real music, how long they generate the same, and how different it sounds.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"'built-in', a folder, or a repository of the Hugging Face hub (default: {BUILT_IN})",
    )
    parser.add_argument("--model", metavar="MODEL", dest="named_model", help="the same, by name")
    add_base_option(parser)
    add_engine_option(parser)
    add_cast_option(parser)
    add_recipe_options(parser)
    parser.add_argument(
        "--quality-prompt",
        metavar="PATH",
        dest="prompts",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="files and folders of music, best some that the model was not trained on (default: "
        "segue's own held-out prompts)",
    )
    parser.add_argument(
        "--prompt-seconds",
        type=float,
        default=QualityRequest.prompt_seconds,
        help="how much of each prompt the models continue",
    )
    parser.add_argument(
        "--output-seconds",
        type=float,
        help="length of prompt and continuation together "
        f"(default: {CONTINUATION_SECONDS:g} more than the prompt)",
    )
    parser.add_argument("--text", default="", help=f"for both: {TEXT_HELP}")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first take of each prompt")
    parser.add_argument(
        "--variations", type=int, default=TAKES, help="how many takes of each prompt"
    )
    parser.add_argument(
        "--save-folder", metavar="FOLDER", type=Path, help="write the takes there, as WAVs"
    )
    add_output_options(parser)
    _add_former_names(parser)
    parser.set_defaults(run=run)


def _add_former_names(parser: argparse.ArgumentParser) -> None:
    """Add names from before commands had the same ones: they work, and no help shows them."""
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--continuation-seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument(
        "--takes",
        dest="variations",
        type=int,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--audio",
        dest="prompts",
        nargs="+",
        action="extend",
        type=Path,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def run(options: argparse.Namespace) -> int:
    """Run `segue quality`: check, measure, write, print."""
    request, report_file = request_of(options), report_file_of(options)
    quality = measure(request, progress_for(not options.no_progress)).to_json()
    if report_file is not None:
        write_json(report_file, quality)
    if options.json:
        print_json(quality)
    else:
        show(quality)
    return 0


def request_of(options: argparse.Namespace) -> QualityRequest:
    """Return what the options ask to measure.

    Raises:
        RequestError: one is out of range, or two contradict each other.
    """
    if options.model is not None and options.named_model is not None:
        raise RequestError(f"{options.model} and --model {options.named_model}: drop one")
    recipe = _recipe(options)
    return QualityRequest(
        variant=Variant(name_of(options.cast_dtype, recipe), options.cast_dtype, recipe),
        model=options.model or options.named_model or BUILT_IN,
        base_model=options.base_model,
        engine=options.engine,
        prompts=options.prompts,
        text=options.text,
        seed=options.seed,
        takes=options.variations,
        prompt_seconds=options.prompt_seconds,
        continuation_seconds=_continuation_seconds(options),
        folder=options.save_folder,
    )


def _recipe(options: argparse.Namespace) -> Recipe | None:
    if options.variant is None:
        return recipe_of(options)
    if options.recipe is not None:
        raise RequestError("--variant and --recipe both say what is quantized; drop one")
    options.recipe = options.variant
    return recipe_of(options, "--variant")


def _continuation_seconds(options: argparse.Namespace) -> float:
    alone: float | None = options.continuation_seconds
    if options.output_seconds is None:
        return CONTINUATION_SECONDS if alone is None else alone
    if alone is not None:
        raise RequestError("--output-seconds and --continuation-seconds: drop one")
    seconds: float = options.output_seconds - options.prompt_seconds
    if not seconds >= SHORTEST_CONTINUATION:
        raise RequestError(
            f"output-seconds of {options.output_seconds:g} leave less than "
            f"{SHORTEST_CONTINUATION:g} s after a prompt of {options.prompt_seconds:g}; raise it, "
            "or lower prompt-seconds"
        )
    return seconds


def show(quality: Mapping[str, Any]) -> None:
    """Print what `QualityReport.to_json` gave."""
    Console().print(_table(quality))
    for line in _lines(quality):
        print_line(line)


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
        f"generates the same for {free['mean_frames']:.0f} of {free['limit_frames']} frames "
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
