"""The command line: `segue continue`, `models`, `quantize`, the laboratory's commands, `serve`.

Each command is a function of parsed options, a thin shell over the library.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from . import audio, models_command, outputs, standard_streams
from .atomic import check_new_folder
from .checkpoints.opening import open_checkpoint
from .checkpoints.recipe import Recipe
from .continuation import Request, Result, continue_audio
from .doctor import command as doctor_command
from .errors import RequestError, SegueError
from .lab import bench_command, matrix_command
from .lab.quality import command
from .model import Model, load
from .models_command import size_of
from .options import (
    HelpFormatter,
    add_base_option,
    add_cast_option,
    add_model_options,
    add_output_options,
    add_recipe_options,
    add_request_options,
    add_threads_option,
    naming,
    recipe_of,
    request_of,
)
from .service import command as serve_command
from .terminal import progress_for

UNREAD = 1
BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code.

    It is 0, 2 for bad input and for a system that does not let segue do it, 130 after Ctrl-C, and
    1 where nobody reads what is printed any more.
    """
    with standard_streams.prepared():
        try:
            return _run(arguments)
        except SegueError as error:
            line = str(error)
        except BrokenPipeError:
            return UNREAD
        except OSError as error:  # the last resort; who knows what to do about one says so earlier
            line = _of_system(error)
        except KeyboardInterrupt:
            print("segue: stopped", file=sys.stderr)  # noqa: T201
            return INTERRUPTED
        print(f"segue: {line}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT


def _of_system(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}"
    try:
        Path.cwd()
    except OSError:
        return "the working folder is not there any more; go to another"
    return reason


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
    except SystemExit:  # after --help and --version, and of rich, when nobody reads any more
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # here, where it may still be said that it fails
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise RequestError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="segue", description="Continue music with a MusicGen model.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"segue {version('segue')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    play = commands.add_parser(
        "continue",
        help="play on from a piece of audio",
        description="Play on from a piece of audio: its samples stay as they are, the model's "
        "follow.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    play.add_argument(
        "prompt",
        metavar="PROMPT",
        type=Path,
        help="an audio file of any format; - is standard input",
    )
    play.add_argument(
        "-o",
        "--output",
        type=Path,
        help="where to write it: .wav, .flac, .ogg or .mp3; several variations are numbered "
        "(default: PROMPT-continued.wav, here, or its next free number)",
        default=argparse.SUPPRESS,
    )
    add_model_options(play)
    add_threads_option(play)
    add_recipe_options(play)
    add_request_options(play)
    play.add_argument(
        "--variations", type=int, default=Request.variations, help="how many takes, in one batch"
    )
    play.add_argument(
        "--codec-prompt",
        action="store_true",
        help="write the codec's copy of the prompt instead of your own samples",
    )
    add_output_options(play)
    play.set_defaults(run=run_continue)

    models_command.add_parser(commands)
    quantize = commands.add_parser(
        "quantize",
        help="quantize a checkpoint once and keep it",
        description="Write a quantized checkpoint: a new folder with all that a run needs, which "
        "loads in a fraction of the time and plays what --quantize would.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    quantize.add_argument(
        "model", metavar="MODEL", help="'built-in', a folder, or a repository of the hub"
    )
    quantize.add_argument("output", metavar="OUT", type=Path, help="a folder that is not there yet")
    add_base_option(quantize)
    add_cast_option(quantize)
    add_recipe_options(quantize, switch=False)
    add_output_options(quantize)
    quantize.set_defaults(run=run_quantize)

    bench_command.add_parser(commands)
    matrix_command.add_parser(commands)
    command.add_parser(commands)
    serve_command.add_parser(commands)
    doctor_command.add_parser(commands)
    return parser


def run_continue(options: argparse.Namespace) -> int:
    """`segue continue`: read, load, play on, write."""
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    recipe = recipe_of(options)
    request = request_of(options, options.prompt, options.variations)
    for note in request.audio.notes:  # now, so that nobody waits for what she did not want
        print(f"segue: note: {note}", file=sys.stderr)  # noqa: T201
    wanted, name_note = getattr(options, "output", None), None
    if wanted is None:
        wanted, name_note = outputs.default(options.prompt, request.variations)
    paths = outputs.paths_for(wanted, request.audio, request.variations, options.prompt)
    before = time.perf_counter()
    model = load(
        options.model,
        base_model=options.base_model,
        engine=options.engine,
        threads=options.threads,
        cast_dtype=options.cast_dtype,
        recipe=recipe,
        progress=progress,
    )
    timings = {"model_load_s": time.perf_counter() - before}
    with naming(options.prompt):
        result = continue_audio(model.engine, request, progress)
    timings |= result.timings
    before = time.perf_counter()
    notes = list(result.notes)
    with progress.stage("write", len(paths)) as advance:
        for n, (path, take) in enumerate(zip(paths, result.takes, strict=True)):
            for note in audio.write(path, take.played if options.codec_prompt else take.audio):
                print(f"segue: note: {note}", file=sys.stderr)  # noqa: T201
                notes.append(note)
            advance(n + 1)
    timings["write_s"] = time.perf_counter() - before
    timings["total_s"] = time.perf_counter() - started
    report = _report(model, request, result, paths, timings) | _variant(model, options, recipe)
    report["notes"] = notes if name_note is None else [*notes, name_note]
    if options.json:
        Console().out(json.dumps(report, indent=2), highlight=False)
    else:
        _show(report, [note for note in result.notes if note not in request.audio.notes])
    return 0


def _report(
    model: Model, request: Request, result: Result, paths: list[Path], timings: dict[str, float]
) -> dict[str, Any]:
    """What `--json` prints."""
    lm, codec, engine = model.config.lm, model.config.codec, model.engine
    new_seconds = result.new_frames / codec.frame_rate
    return {
        "model": model.name,
        "engine": engine.name,
        "device": engine.device,
        "dtype": engine.dtype,
        "outputs": [
            {"path": str(path), "seed": take.seed, "seconds": round(take.audio.seconds, 6)}
            for path, take in zip(paths, result.takes, strict=True)
        ],
        "sample_rate": request.audio.sample_rate,
        "channels": request.audio.channels,
        "join_sample": result.join,
        "prompt_seconds": result.prompt_frames / codec.frame_rate,
        "new_seconds": new_seconds,
        "codes": [lm.num_codebooks, result.prompt_frames + result.new_frames],
        "guided": result.guided,
        "text": request.text,
        "top_k": request.top_k,
        "temperature": request.temperature,
        "guidance_coef": request.guidance_coef,
        "steps": result.steps,
        "ms_per_step": 1000 * timings["token_generate_s"] / max(1, result.steps),
        "real_time_factor": new_seconds / max(1e-9, timings["token_generate_s"]),
        "timings_s": {name: round(s, 4) for name, s in timings.items()},
        "notes": list(result.notes),
        "version": version("segue"),
    }


def _variant(model: Model, options: argparse.Namespace, recipe: Recipe | None) -> dict[str, Any]:
    """What of `--json` says how the checkpoint ran: cast, and quantized in memory or on disk."""
    on_disk = model.config.quantization
    how = recipe.params if recipe else on_disk.default if on_disk else None
    modules = model.engine.load_report.quantized
    return {
        "cast_dtype": options.cast_dtype,
        "recipe": asdict(recipe) if recipe else None,
        "quantization": asdict(how) | {"modules": len(modules)} if how else None,
    }


_PARTS = {
    "model_load_s": "load the model",
    "prompt_encode_s": "encode the prompt",
    "text_encode_s": "read the text",
    "prefill_s": "hear the prompt",
    "token_generate_s": "generate",
    "decode_full_s": "decode",
    "write_s": "write",
    "total_s": "all, reading included",
}


def _show(report: dict[str, Any], notes: list[str]) -> None:
    """The report for people, with what has not been said to them yet."""
    console = Console()
    table = Table("part", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for part, name in _PARTS.items():
        if part in report["timings_s"]:
            table.add_row(name, f"{report['timings_s'][part]:.2f}")
    console.print(table)
    console.print(
        f"{report['prompt_seconds']:g} s of prompt and {report['new_seconds']:g} s played on by "
        f"{report['model']} on {report['engine']} ({report['device']}, {report['dtype']}): "
        f"{report['ms_per_step']:.1f} ms a step, {report['real_time_factor']:.1f} × real time",
        highlight=False,
        markup=False,
    )
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for output in report["outputs"]:
        console.print(
            f"{output['path']}  {output['seconds']:.2f} s, seed {output['seed']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def run_quantize(options: argparse.Namespace) -> int:
    """`segue quantize`: open, quantize, write."""
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    recipe = recipe_of(options)
    check_new_folder(options.output)
    checkpoint = open_checkpoint(options.model, options.base_model, progress)
    # Imported here, because it is MLX that quantizes, whatever plays later.
    from .checkpoints.quantize import save_quantized

    saved = save_quantized(checkpoint, recipe, options.output, options.cast_dtype, progress)
    seconds = time.perf_counter() - started
    if options.json:
        report = {
            "model": options.model,
            "output": str(saved.folder),
            "recipe": asdict(recipe) if recipe else None,
            "cast_dtype": options.cast_dtype,
            "bytes": saved.bytes,
            "quantized_modules": list(saved.quantized),
            "left_modules": list(saved.left),
            "total_s": round(seconds, 4),
            "version": version("segue"),
        }
        Console().out(json.dumps(report, indent=2), highlight=False)
        return 0
    lines = [
        f"{saved.folder}: {size_of(saved.bytes)}, {len(saved.quantized)} modules quantized, "
        f"in {seconds:.1f} s",
        f"play with it: segue continue PROMPT --model {shlex.quote(str(saved.folder))}",
    ]
    if saved.left:
        lines.insert(1, f"left as they are, for their rows do not fit: {', '.join(saved.left)}")
    for line in lines:
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
    return 0
