"""The command line: `segue continue`, `segue models`.

Each command is a function of parsed options, a thin shell over the library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from . import audio, hub
from .catalogue import CATALOGUE
from .continuation import Request, Result, continue_audio
from .errors import RequestError, SegueError
from .model import CAST_DTYPES, ENGINES, Model, load
from .terminal import progress_for

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
    except SegueError as error:
        print(f"segue: {error}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    except KeyboardInterrupt:
        print("segue: stopped", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
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
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    play.add_argument("prompt", metavar="PROMPT", type=Path, help="an audio file of any format")
    play.add_argument(
        "-o",
        "--output",
        type=Path,
        help="where to write it: .wav, .flac, .ogg or .mp3; several variations are numbered "
        "(default: PROMPT-continued.wav, here)",
        default=argparse.SUPPRESS,
    )
    add_model_options(play)
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

    models = commands.add_parser(
        "models",
        help="what checkpoints are here, and what can be had",
        description="List the checkpoints that are here, and those that can be downloaded.",
        allow_abbrev=False,
    )
    models.add_argument("--json", action="store_true", help="print JSON")
    models.set_defaults(run=run_models)
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what plays."""
    parser.add_argument(
        "--model",
        default=hub.BUILT_IN,
        help="'built-in', a folder, or a repository of the Hugging Face hub",
    )
    parser.add_argument(
        "--base-model", help="what a fine-tune without config.json was trained from"
    )
    parser.add_argument(
        "--cast-dtype", choices=CAST_DTYPES, help="cast the language model's weights"
    )
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the model")


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is played."""
    parser.add_argument(
        "--prompt-seconds",
        type=float,
        default=Request.prompt_seconds,
        help="how much of the audio the model hears",
    )
    parser.add_argument(
        "--output-seconds",
        type=float,
        default=Request.output_seconds,
        help="length of prompt and continuation together",
    )
    parser.add_argument(
        "--prompt-from-end",
        action="store_true",
        help="hear the end of the audio, not its start; everything before it stays",
    )
    parser.add_argument("--text", default=Request.text, help="a description of the music")
    parser.add_argument(
        "--top-k", type=int, default=Request.top_k, help="draw from the k likeliest (0: all)"
    )
    parser.add_argument(
        "--temperature", type=float, default=Request.temperature, help="0 takes the likeliest"
    )
    parser.add_argument(
        "--guidance-coef",
        type=float,
        default=Request.guidance_coef,
        help="how much the text counts",
    )
    parser.add_argument(
        "--allow-empty-text-cfg",
        action="store_true",
        help="run guidance without text, at twice the work",
    )
    parser.add_argument("--seed", type=int, help="0 to 4294967295 (default: a random one)")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is told."""
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument(
        "--json", action="store_true", help="print timings, seed and shapes as JSON"
    )


def run_continue(options: argparse.Namespace) -> int:
    """`segue continue`: read, load, play on, write."""
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    head = None if options.prompt_from_end else options.prompt_seconds
    request = Request(
        audio=audio.read(options.prompt, head),
        prompt_seconds=options.prompt_seconds,
        output_seconds=options.output_seconds,
        prompt_from="end" if options.prompt_from_end else "start",
        text=options.text,
        top_k=options.top_k,
        temperature=options.temperature,
        guidance_coef=options.guidance_coef,
        allow_empty_text_cfg=options.allow_empty_text_cfg,
        seed=options.seed,
        variations=options.variations,
    )
    outputs = _outputs(options, request)
    before = time.perf_counter()
    model = load(
        options.model,
        base_model=options.base_model,
        engine=options.engine,
        cast_dtype=options.cast_dtype,
        progress=progress,
    )
    timings = {"model_load_s": time.perf_counter() - before}
    result = continue_audio(model.engine, request, progress)
    timings |= result.timings
    before = time.perf_counter()
    with progress.stage("write", len(outputs)) as advance:
        for n, (path, take) in enumerate(zip(outputs, result.takes, strict=True)):
            audio.write(path, take.played if options.codec_prompt else take.audio)
            advance(n + 1)
    timings["write_s"] = time.perf_counter() - before
    timings["total_s"] = time.perf_counter() - started
    report = _report(model, request, result, outputs, timings)
    if options.json:
        Console().out(json.dumps(report, indent=2), highlight=False)
    else:
        _show(report)
    return 0


def _outputs(options: argparse.Namespace, request: Request) -> list[Path]:
    """Where the takes go; checked before anything is loaded, so that no wait is for nothing."""
    prompt: Path = options.prompt
    path: Path = getattr(options, "output", Path(f"{prompt.stem}-continued.wav"))
    audio.check_output(path, request.audio)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise RequestError(f"{path}: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RequestError(f"{path}: the folder {folder} cannot be written to")
    numbers = range(1, request.variations + 1)
    several = [path.with_stem(f"{path.stem}-{n}") for n in numbers]
    paths = [path] if request.variations == 1 else several
    for path in paths:
        if path.is_dir():
            raise RequestError(f"{path}: a folder; name a file")
        if path.exists() and path.samefile(prompt):
            raise RequestError(f"{path}: the prompt itself; name another output")
    return paths


def _report(
    model: Model, request: Request, result: Result, outputs: list[Path], timings: dict[str, float]
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
            for path, take in zip(outputs, result.takes, strict=True)
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


def _show(report: dict[str, Any]) -> None:
    """The report for people."""
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
    for note in report["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False)
    for output in report["outputs"]:
        console.print(
            f"{output['path']}  {output['seconds']:.2f} s, seed {output['seed']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def run_models(options: argparse.Namespace) -> int:
    """`segue models`: what is here, and what can be had."""
    here = hub.local_models()
    names = {model.name for model in here}
    absent = [
        (name, size, family.approximate_bytes(name))
        for size, family in CATALOGUE.items()
        for name in family
        if name not in names
    ]
    if options.json:
        report = {
            "here": [
                {
                    "name": model.name,
                    "path": str(model.path),
                    "bytes": model.size_bytes,
                    "complete": model.complete,
                    "missing": list(model.missing),
                }
                for model in here
            ],
            "to_be_had": [
                {"name": name, "size": size, "approximate_bytes": count}
                for name, size, count in absent
            ],
        }
        Console().out(json.dumps(report, indent=2), highlight=False)
        return 0
    table = Table("model", "", "on disk", "state", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for model in here:
        state = "here" if model.complete else f"incomplete: no {', '.join(model.missing)}"
        table.add_row(model.name, "", _size(model.size_bytes), state)
    for name, size, count in absent:
        table.add_row(name, size, f"about {_size(count)}", "can be downloaded")
    Console().print(table)
    return 0


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
