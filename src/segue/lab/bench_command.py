"""`segue bench`: options to a measurement, a measurement to a report."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import audio
from ..atomic import check_writable
from ..channel import stdout_progress
from ..options import (
    HelpFormatter,
    add_activations_option,
    add_kv_option,
    add_model_options,
    add_output_options,
    add_prompt_option,
    add_request_options,
    naming,
    prompt_of,
    report_file_of,
    request_of,
)
from ..outputs import write_json
from ..recipe_options import add_recipe_options, recipe_of
from ..terminal import print_json, progress_for
from . import bench_table
from .bench import measure
from .requests import RUNS, BenchRequest, check_runs, seeded
from .variant import Variant


def add_parser(commands: Any) -> None:
    """Add `segue bench`."""
    parser = commands.add_parser(
        "bench",
        description="Load a checkpoint, as it is or quantized, generate one continuation several "
        "times with the same seed, and report timings, memory and bandwidth.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_prompt_option(parser)
    add_model_options(parser)
    add_kv_option(parser)
    add_activations_option(parser)
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
    add_output_options(parser)
    parser.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def add_run_option(parser: argparse.ArgumentParser) -> None:
    """Add `--runs`."""
    parser.add_argument(
        "--runs",
        type=int,
        default=RUNS,
        metavar="N",
        help="how often to run after the first time, which warms up and is reported apart",
    )


def run(options: argparse.Namespace) -> int:
    """Run `segue bench`: check, measure, write, print."""
    recipe, prompt, report_file = recipe_of(options), prompt_of(options), report_file_of(options)
    check_runs(options.runs)
    wanted = BenchRequest(
        variant=Variant(
            "bench", options.cast_dtype, recipe, None, options.kv_bits, options.activations
        ),
        request=seeded(request_of(options, prompt)),
        prompt=str(prompt),
        model=options.model,
        base_model=options.base_model,
        engine=options.engine,
        runs=options.runs,
        decode_continuation=options.decode_continuation,
    )
    files: dict[str, Path] = {}
    if options.save_prefix is not None:
        names = ("full", "continuation")
        files = {name: Path(f"{options.save_prefix}_{name}.wav") for name in names}
    for path in files.values():
        audio.check_output(path, wanted.request.audio)
        check_writable(path)
    progress = (
        stdout_progress() if options.progress_lines else progress_for(not options.no_progress)
    )
    with naming(prompt):
        measured = measure(wanted, progress)
    report = measured.report
    if files:
        notes = audio.write(files["full"], measured.full)
        notes += audio.write(files["continuation"], measured.continuation)
        written = {name: str(path) for name, path in files.items()}
        report = replace(report, audio=written, notes=[*report.notes, *notes])
    content = report.to_json()
    if report_file is not None:
        write_json(report_file, content)  # last: where it lies, the audio does too
    if options.json:
        print_json(content)
    elif not options.progress_lines:
        bench_table.show(content)
    return 0
