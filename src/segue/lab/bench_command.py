"""`segue bench`."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import audio
from ..atomic import check_writable
from ..channel import stdout_progress
from ..continuation import Request
from ..errors import RequestError
from ..options import (
    HelpFormatter,
    add_model_options,
    add_output_options,
    add_recipe_options,
    add_request_options,
    naming,
    recipe_of,
    request_of,
)
from ..terminal import progress_for
from . import bench_table
from .bench import RUNS, measure
from .files import write_json
from .variant import Variant

MAX_RUNS = 1000


def add_parser(commands: Any) -> None:
    """Add `segue bench`."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast a checkpoint plays, and where the time goes",
        description="Load a checkpoint, as it is or quantized, play one continuation several times "
        "with the same seed, and report timings, memory and bandwidth.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--prompt", type=Path, required=True, help="an audio file of any format")
    add_model_options(parser)
    add_recipe_options(parser)
    add_request_options(parser)
    add_run_option(parser)
    parser.add_argument(
        "--save-prefix",
        metavar="P",
        help="write P_full.wav (your own audio, then the continuation) and P_continuation.wav (the "
        "continuation alone, cut from it)",
    )
    parser.add_argument(
        "--decode-continuation",
        action="store_true",
        help="decode the continuation a second time, by itself, and write that",
    )
    parser.add_argument("--report-json", metavar="FILE", type=Path, help="write the report there")
    add_output_options(parser)
    parser.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def add_run_option(parser: argparse.ArgumentParser) -> None:
    """`--runs`."""
    parser.add_argument(
        "--runs",
        type=int,
        default=RUNS,
        metavar="N",
        help="how often to play after the first run, which warms up and is reported apart",
    )


def repeatable_request(options: argparse.Namespace) -> Request:
    """What is played `--runs` times again, always with the same seed.

    Raises:
        AudioError: the prompt cannot be read.
        RequestError: an option is out of range.
    """
    if not 0 <= options.runs <= MAX_RUNS:
        raise RequestError(f"runs must lie between 0 and {MAX_RUNS}, not {options.runs}")
    request = request_of(options, options.prompt)
    return replace(request, seed=secrets.randbelow(2**31)) if request.seed is None else request


def run(options: argparse.Namespace) -> int:
    """`segue bench`: check, measure, write, print."""
    recipe = recipe_of(options)
    request = repeatable_request(options)
    files: dict[str, Path] = {}
    if options.save_prefix is not None:
        names = ("full", "continuation")
        files = {name: Path(f"{options.save_prefix}_{name}.wav") for name in names}
    for path in files.values():
        audio.check_output(path, request.audio)
        check_writable(path)
    if options.report_json is not None:
        check_writable(options.report_json)
    progress = (
        stdout_progress() if options.progress_lines else progress_for(not options.no_progress)
    )
    with naming(options.prompt):
        measured = measure(
            Variant("bench", options.cast_dtype, recipe),
            options.model,
            request,
            str(options.prompt),
            base_model=options.base_model,
            engine=options.engine,
            runs=options.runs,
            decode_continuation=options.decode_continuation,
            progress=progress,
        )
    report = measured.report
    if files:
        said = audio.write(files["full"], measured.full)
        said += audio.write(files["continuation"], measured.continuation)
        written = {name: str(path) for name, path in files.items()}
        report = replace(report, audio=written, notes=[*report.notes, *said])
    content = report.to_json()
    if options.report_json is not None:
        write_json(options.report_json, content)  # last: where it lies, the audio does too
    if not options.progress_lines:
        bench_table.show(content, as_json=options.json)
    return 0
