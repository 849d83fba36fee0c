"""`segue matrix`: options to a folder, and all the steps on it."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from ..atomic import check_new_folder
from ..audio.decode.opening import STDIN
from ..checkpoints.opening import open_checkpoint
from ..errors import RequestError
from ..options import (
    HelpFormatter,
    add_judge_option,
    add_model_options,
    add_output_options,
    add_prompt_option,
    add_request_options,
    prompt_of,
    request_of,
)
from ..progress import Progress
from ..storage import Storage, place
from ..terminal import print_json, progress_for
from ..uploads import store_folder
from . import matrix_table
from .bench_command import add_run_option
from .matrix import Folder, choose, measure_quality, report, run_rows
from .pick import MAX_KL, check_budget
from .requests import MatrixRequest, check_runs, seeded
from .results import FILE
from .rows import rows_of


def add_parser(commands: Any) -> None:
    """Add `segue matrix`."""
    parser = commands.add_parser(
        "matrix",
        description="Bench variants of a checkpoint side by side, each in its own process and all "
        "with one seed, measure what they cost in quality, and pick one.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_prompt_option(parser)
    add_model_options(parser, cast=False)
    add_request_options(parser)
    add_run_option(parser)
    parser.add_argument(
        "--rows",
        metavar="FILE",
        type=Path,
        help="a TOML file with a table [[row]] for each row: name, cast, recipe or bits, group, "
        "scope, mode; method, calibrate, self_takes, calibration_seed, distill_steps; kv_bits, "
        "activations; or checkpoint, a folder of segue quantize (default: baseline, float16, q8, "
        "q4, q4-emb)",
    )
    parser.add_argument(
        "--row",
        metavar="ROW",
        action="append",
        default=[],
        help="a row: 'name=q4-f16, cast=float16, recipe=q4', or in detail 'bits=4, group=64, "
        "scope=decoder-linears, mode=affine'; may be repeated",
    )
    parser.add_argument(
        "--max-kl",
        type=float,
        help="how far the picked row's next-token distribution may be from the baseline's: mean KL "
        f"divergence in nats a token (default: {MAX_KL}, with which on average at most one token "
        "in ten would be drawn differently)",
    )
    parser.add_argument("--no-quality", action="store_true", help="measure speed alone; no pick")
    parser.add_argument(
        "--quality-prompt",
        metavar="PATH",
        type=Path,
        action="append",
        default=[],
        help="music to measure quality on, a file or a folder; may be repeated (default: segue's "
        "own)",
    )
    add_judge_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        "--out",
        metavar="FOLDER",
        type=place,
        help="a new folder (default: reports/TIMESTAMP); at an address such as s3://bucket/x all "
        "that is in reports/TIMESTAMP is stored when the matrix is finished",
    )
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        type=Path,
        help="resume a matrix that was stopped; its rows that are done stay",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run rows and measure their quality on the machines of a Ray cluster, HOST:PORT of "
        "its head or auto; compare times only where its machines are alike",
    )
    add_output_options(parser, report_file=False)
    parser.set_defaults(run=run, default_of=parser.get_default)


def run(options: argparse.Namespace) -> int:
    """Run `segue matrix`: begin or resume, bench, measure, pick, report."""
    if options.max_kl is not None:
        check_budget(options.max_kl)
    console = Console(stderr=True, quiet=options.no_progress, highlight=False, markup=False)
    progress = progress_for(not options.no_progress)
    if options.cluster is not None:
        from ..cluster import connect

        connect(options.cluster)
    address = options.output if isinstance(options.output, str) else None
    if address is not None:
        storage = Storage(address)
        storage.check()
        if not storage.is_empty():
            raise RequestError(f"{address}: exists already; name a new folder")
    folder = _resumed(options) if options.resume else _begun(options, progress)
    try:
        if options.cluster is not None:
            _run_in_cluster(folder, console)
        else:
            run_rows(folder, progress, console)
            if folder.matrix["request"]["quality"]:
                measure_quality(folder, progress, console)
        matrix = choose(folder)
        written = report(folder, matrix, progress)
        if address is not None:
            store_folder(folder.path, address, progress, last=(FILE,))
    except BaseException:
        to = "" if address is None else f" -o {address}"
        Console(stderr=True).print(
            f"segue: go on with: segue matrix --resume {folder.path}{to}",
            markup=False,
            soft_wrap=True,
        )
        raise
    if options.json:
        print_json(folder.matrix)
    else:
        matrix_table.show(matrix)
    for path in [folder.path / FILE, *written]:
        console.print(path, soft_wrap=True)
    if address is not None:
        console.print(address, soft_wrap=True)
    if all(row.status != "ok" for row in matrix.rows):
        raise RequestError(f"no row could be run; {folder.path / FILE} says why")
    return 0


def _run_in_cluster(folder: Folder, console: Console) -> None:
    from . import matrix_cluster

    matrix_cluster.run_rows(folder, console)
    if folder.matrix["request"]["quality"]:
        matrix_cluster.measure_quality(folder, console)


def _begun(options: argparse.Namespace, progress: Progress) -> Folder:
    """A new matrix; everything that can be wrong is found before there is a folder."""
    if options.prompt is None and options.named_prompt is None:
        raise RequestError("name a prompt, an audio file; or --resume a folder")
    prompt = prompt_of(options)
    variants = rows_of(options.rows, options.row)
    if options.judge is not None and options.quality_prompt:
        raise RequestError("--judge and --quality-prompt both name the music; drop one")
    for path in options.quality_prompt:
        if not os.path.exists(path):  # noqa: PTH110 - Path's own raises for some names
            raise RequestError(f"--quality-prompt {path}: no such file or folder")
    if not prompt.is_file() and (prompt == STDIN or prompt.is_fifo()):
        raise RequestError(
            f"{prompt}: every row reads the prompt by itself; name a file, not a pipe"
        )
    check_runs(options.runs)
    wanted = MatrixRequest(
        variants=variants,
        request=seeded(request_of(options, prompt)),
        prompt=str(prompt),
        model=options.model,
        base_model=options.base_model,
        engine=options.engine,
        runs=options.runs,
        quality=not options.no_quality,
        quality_prompts=options.quality_prompt,
        judge=options.judge,
        max_kl=MAX_KL if options.max_kl is None else options.max_kl,
    )
    chosen = None if isinstance(options.output, str) else options.output
    path = chosen or Path("reports") / datetime.now().strftime("%Y%m%d-%H%M%S")
    if os.path.lexists(path):
        raise RequestError(f"{path}: exists already; name a new folder, or --resume {path}")
    check_new_folder(path)
    open_checkpoint(options.model, options.base_model, progress)
    return Folder.make(path, wanted)


def _resumed(options: argparse.Namespace) -> Folder:
    """A matrix that was begun; all but its budget is settled."""
    free = ("resume", "max_kl", "cluster", "words", "no_progress", "json", "run", "default_of")
    given = [name for name, value in vars(options).items() if value != options.default_of(name)]
    if isinstance(options.output, str):  # where it is stored is not what it is
        given.remove("output")
    for name in given:
        if name not in free:
            prompt = name in ("prompt", "named_prompt")
            option = "the prompt" if prompt else f"--{name.replace('_', '-')}"
            raise RequestError(f"--resume goes on as it was begun; leave out {option}")
    folder = Folder.open(options.resume)
    if options.max_kl is not None:
        folder.matrix["max_kl"] = options.max_kl
    file = folder.matrix["prompt"]
    if not Path(file).is_file():
        raise RequestError(f"{file}: not here; go on from the folder where it was begun")
    folder.write()
    return folder
