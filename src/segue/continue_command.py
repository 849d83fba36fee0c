"""`segue continue`: read a prompt, load a model, continue, write the takes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import audio, outputs
from .checkpoints.recipe import Recipe
from .continuation import Request, Result, continue_audio
from .model import Model, load
from .options import (
    HelpFormatter,
    adapters_of,
    add_adapter_option,
    add_model_options,
    add_output_options,
    add_recipe_options,
    add_request_options,
    add_threads_option,
    naming,
    recipe_of,
    report_file_of,
    request_of,
)
from .progress import Progress
from .terminal import print_json, print_line, progress_for

_PARTS = {
    "model_load_s": "load the model",
    "prompt_encode_s": "encode the prompt",
    "text_encode_s": "encode the text",
    "prefill_s": "prefill",
    "token_generate_s": "generate",
    "decode_full_s": "decode",
    "write_s": "write",
    "total_s": "all, reading included",
}


def add_parser(commands: Any) -> None:
    """Add `segue continue`."""
    parser = commands.add_parser(
        "continue",
        help="play on from a piece of audio",
        description="Play on from a piece of audio: its samples stay as they are, the model's "
        "follow.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        type=Path,
        help="an audio file of any format; - is standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="where to write it: .wav, .flac, .ogg or .mp3; several variations are numbered "
        "(default: PROMPT-continued.wav, here, or its next free number)",
        default=argparse.SUPPRESS,
    )
    add_model_options(parser)
    add_adapter_option(parser)
    add_threads_option(parser)
    add_recipe_options(parser)
    add_request_options(parser)
    parser.add_argument(
        "--variations", type=int, default=Request.variations, help="how many takes, in one batch"
    )
    parser.add_argument(
        "--codec-prompt",
        action="store_true",
        help="write the codec's copy of the prompt instead of your own samples",
    )
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue continue`."""
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    recipe, report_file = recipe_of(options), report_file_of(options)
    adapters = adapters_of(options)
    request = request_of(options, options.prompt, options.variations)
    for note in request.audio.notes:  # now, so that nobody waits in vain
        _warn(note)
    output, name_note = getattr(options, "output", None), None
    if output is None:
        output, name_note = outputs.default(options.prompt, request.variations)
    paths = outputs.paths_for(output, request.audio, request.variations, options.prompt)
    before = time.perf_counter()
    model = load(
        options.model,
        base_model=options.base_model,
        engine=options.engine,
        threads=options.threads,
        cast_dtype=options.cast_dtype,
        recipe=recipe,
        adapters=adapters,
        progress=progress,
    )
    timings = {"model_load_s": time.perf_counter() - before}
    with naming(options.prompt):
        result = continue_audio(model.engine, request, progress)
    timings |= result.timings
    before = time.perf_counter()
    notes = [*result.notes, *_write(result, paths, options.codec_prompt, progress)]
    timings["write_s"] = time.perf_counter() - before
    timings["total_s"] = time.perf_counter() - started
    report = _report(model, request, result, paths, timings)
    report |= _variant(model, options.cast_dtype, recipe)
    report["adapters"] = list(options.adapter)
    report["notes"] = notes if name_note is None else [*notes, name_note]
    if report_file is not None:
        outputs.write_json(report_file, report)
    if options.json:
        print_json(report)
    else:
        _show(report, [note for note in result.notes if note not in request.audio.notes])
    return 0


def _warn(note: str) -> None:
    print(f"segue: note: {note}", file=sys.stderr)  # noqa: T201


def _write(
    result: Result, paths: Sequence[Path], codec_prompt: bool, progress: Progress
) -> list[str]:
    """Write each take; return what is to be known of the files."""
    notes = []
    with progress.stage("write", len(paths)) as advance:
        for n, (path, take) in enumerate(zip(paths, result.takes, strict=True)):
            for note in audio.write(path, take.played if codec_prompt else take.audio):
                _warn(note)
                notes.append(note)
            advance(n + 1)
    return notes


def _report(
    model: Model,
    request: Request,
    result: Result,
    paths: Sequence[Path],
    timings: dict[str, float],
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


def _variant(model: Model, cast_dtype: str | None, recipe: Recipe | None) -> dict[str, Any]:
    """How the checkpoint ran, for `--json`: cast, and quantized in memory or on disk."""
    on_disk = model.config.quantization
    how = recipe.params if recipe else on_disk.default if on_disk else None
    modules = model.engine.load_report.quantized
    return {
        "cast_dtype": cast_dtype,
        "recipe": asdict(recipe) if recipe else None,
        "quantization": asdict(how) | {"modules": len(modules)} if how else None,
    }


def _show(report: dict[str, Any], notes: Sequence[str]) -> None:
    """Print the report for people, with the notes that were not printed before."""
    table = Table("part", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for part, name in _PARTS.items():
        if part in report["timings_s"]:
            table.add_row(name, f"{report['timings_s'][part]:.2f}")
    Console().print(table)
    print_line(
        f"{report['prompt_seconds']:g} s of prompt and {report['new_seconds']:g} s played on by "
        f"{report['model']} on {report['engine']} ({report['device']}, {report['dtype']}): "
        f"{report['ms_per_step']:.1f} ms a step, {report['real_time_factor']:.1f} × real time",
        wrap=True,
    )
    for note in notes:
        print_line(f"note: {note}", wrap=True)
    for output in report["outputs"]:
        print_line(f"{output['path']}  {output['seconds']:.2f} s, seed {output['seed']}")
