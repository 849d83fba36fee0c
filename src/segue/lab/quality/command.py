"""`segue quality`: options to a measurement, a measurement to a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from ...checkpoints.hub import BUILT_IN
from ...errors import RequestError
from ...options import (
    TEXT_HELP,
    HelpFormatter,
    add_activations_option,
    add_base_option,
    add_cast_option,
    add_engine_option,
    add_judge_option,
    add_kv_option,
    add_output_options,
    report_file_of,
)
from ...outputs import write_json
from ...recipe_options import add_recipe_options, recipe_of
from ...terminal import print_json, print_line, print_table, progress_for
from ...time_options import seconds
from ..files import read_json
from ..variant import Variant, name_of
from .measure import measure
from .paired import difference
from .report import SCHEMA
from .request import (
    CONTINUATION_SECONDS,
    SEED,
    SHORTEST_CONTINUATION,
    TAKES,
    QualityRequest,
)


def add_parser(commands: Any) -> None:
    """Add `segue quality`."""
    parser = commands.add_parser(
        "quality",
        description="Compare a variant of a checkpoint with the checkpoint as it is: what both "
        "predict next in real music, how long they generate the same, and how different it sounds.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="'built-in', a folder, a repository of the Hugging Face hub, or an address such as "
        f"s3://bucket/folder (default: {BUILT_IN})",
    )
    parser.add_argument("--model", metavar="MODEL", dest="named_model", help="the same, by name")
    add_base_option(parser)
    add_engine_option(parser)
    add_cast_option(parser)
    add_kv_option(parser)
    add_activations_option(parser)
    add_recipe_options(parser)
    parser.add_argument(
        "--variant",
        metavar="CHECKPOINT",
        help="in the place of a recipe: a checkpoint that was made of MODEL, such as a folder of "
        "segue quantize",
    )
    add_judge_option(parser)
    parser.add_argument(
        "--quality-prompt",
        metavar="PATH",
        dest="prompts",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="files and folders of music, best some that the model was not trained on; NAME.txt "
        "beside NAME.wav has the words for it (default: segue's own held-out music)",
    )
    parser.add_argument(
        "--prompt-seconds",
        metavar="TIME",
        type=seconds,
        default=QualityRequest.prompt_seconds,
        help="how much of each prompt the models continue",
    )
    parser.add_argument(
        "--output-seconds",
        metavar="TIME",
        type=seconds,
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
    parser.add_argument(
        "--compare",
        metavar="REPORT",
        type=Path,
        help="a report of another variant, from --report-json: which of the two loses less, with "
        "the interval of the difference",
    )
    add_output_options(parser)
    _add_former_names(parser)
    parser.set_defaults(run=run)


def _add_former_names(parser: argparse.ArgumentParser) -> None:
    """Add names from before commands had the same ones: they work, and no help shows them."""
    parser.add_argument("--continuation-seconds", type=seconds, help=argparse.SUPPRESS)
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
    other = None if options.compare is None else read_json(options.compare, SCHEMA)
    quality = measure(request, progress_for(not options.no_progress)).to_json()
    compared = {} if other is None else _differences(quality, other)
    if report_file is not None:
        write_json(report_file, quality)
    if options.json:
        print_json(quality | ({"less": compared} if compared else {}))
    else:
        show(quality)
        for name, less in compared.items():
            low, high = less["ci95"]
            print_line(
                f"KL less {less['than']}'s{_IN_WORDS[name]}: {less['mean']:+.2g} "
                f"({low:+.2g} – {high:+.2g}) nats"
            )
    return 0


_IN_WORDS = {"kl": "", "text": ", with text", "guided": ", guided"}


def _differences(quality: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How much more than another variant this one loses, without text, with it, and guided."""
    found = {}
    for name in _IN_WORDS:
        if name == "kl" or name in quality["blocks"]:
            less = difference(quality, other, name)
            than = other["variant"]["name"]
            found[name] = {"than": than, "mean": less.mean, "ci95": list(less.ci95)}
    return found


def request_of(options: argparse.Namespace) -> QualityRequest:
    """Return what the options ask to measure.

    Raises:
        RequestError: one is out of range, or two contradict each other.
    """
    if options.model is not None and options.named_model is not None:
        raise RequestError(f"{options.model} and --model {options.named_model}: drop one")
    return QualityRequest(
        variant=_variant(options),
        model=options.model or options.named_model or BUILT_IN,
        base_model=options.base_model,
        engine=options.engine,
        prompts=options.prompts,
        judge=options.judge,
        text=options.text,
        seed=options.seed,
        takes=options.variations,
        prompt_seconds=options.prompt_seconds,
        continuation_seconds=_continuation_seconds(options),
        folder=options.save_folder,
    )


def _variant(options: argparse.Namespace) -> Variant:
    """What is measured; `--variant q4` is the name that `--recipe q4` had before."""
    named, named_by = options.variant, "--recipe"
    if named is not None:
        if options.recipe is not None:
            raise RequestError("--variant and --recipe both say what is quantized; drop one")
        if Path(named).is_dir() or ("/" in named and not named.lower().endswith(".json")):
            recipe = recipe_of(options, "--variant")
            if recipe is not None or options.cast_dtype is not None:
                raise RequestError(f"--variant {named} runs as it is; leave out what changes it")
            return Variant.of_checkpoint(named, options.kv_bits, options.activations)
        options.recipe, named_by = named, "--variant"
        try:
            recipe = recipe_of(options, named_by)
        except RequestError as error:
            if Path(named).exists():
                raise
            raise RequestError(f"--variant {named}: there is no such folder, and {error}") from None
    else:
        recipe = recipe_of(options, named_by)
    kv, activations = options.kv_bits, options.activations
    name = name_of(options.cast_dtype, recipe, kv, activations)
    return Variant(name, options.cast_dtype, recipe, None, kv, activations)


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
    print_table(_table(quality))
    for line in _lines(quality):
        print_line(line)


def _table(quality: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("KL, nats", "95 %", "99 %", "max", "top code", "perplexity"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = [(name.replace("_", " "), quality, name) for name in quality["kl"]]
    rows += [
        (_CONDITIONS[condition], tables, "overall")
        for condition, tables in quality["conditions"].items()
    ]
    for title, tables, name in rows:
        kl = tables["kl"][name]
        agreement, perplexity = tables["top1_agreement"][name], tables["perplexity"][name]
        low, high = kl["ci95"]
        table.add_row(
            title,
            f"{kl['mean']:.2g}",
            f"{low:.2g} – {high:.2g}",
            *(f"{kl[column]:.2g}" for column in ("p99", "max")),
            f"{agreement['mean']:.1%}",
            f"× {perplexity['ratio']:.4f}",
        )
    return table


_CONDITIONS = {"text": "with text", "guided": "guided"}


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
