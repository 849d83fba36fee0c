"""What `segue continue` and `segue generate` share: load, generate, write the takes, say it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import again, audio, beats, outputs
from .checkpoints.recipe import Recipe
from .continuation import Request, Result, Take, continue_audio
from .errors import SegueError
from .model import Model, load
from .options import (
    adapters_of,
    add_adapter_option,
    add_kv_option,
    add_melody_option,
    add_model_options,
    add_request_options,
    add_threads_option,
    report_file_of,
)
from .part_options import add_then_option
from .progress import Progress
from .recipe_options import add_recipe_options, recipe_of
from .terminal import print_json, print_line, progress_for
from .time_options import add_bar_options, add_length_options

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


_ENDS = ("start", "stop")


def add_options(parser: argparse.ArgumentParser, prompt: bool = True) -> None:
    """Add the options that both commands have.

    Args:
        parser: of the command.
        prompt: whether there is a prompt, whose length and place are options too.
    """
    add_model_options(parser)
    add_adapter_option(parser)
    add_threads_option(parser)
    add_kv_option(parser)
    add_recipe_options(parser)
    add_request_options(parser, prompt)
    add_length_options(parser)
    add_then_option(parser)
    add_bar_options(parser, prompt)
    add_melody_option(parser)
    parser.add_argument(
        "--variations", type=int, default=Request.variations, help="how many takes, in one batch"
    )


class Run:
    """One run of a command, from its options to its exit code.

    Options that cannot be are refused when it is made, before anything long begins.

    Args:
        options: parsed, of `add_options` and `add_output_options`.

    Raises:
        RequestError: options contradict each other.
        OutputError: the report cannot be written where it should be.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._started = time.perf_counter()
        self._options = options
        self._progress = progress_for(not options.no_progress)
        self._recipe, self._adapters = recipe_of(options), adapters_of(options)
        self._report_file = report_file_of(options)

    def __call__(
        self,
        request_for: Callable[[Model], Request],
        paths: Sequence[Path],
        *,
        note: str | None = None,
        codec_prompt: bool = False,
        naming: AbstractContextManager[None] | None = None,
    ) -> int:
        """Load, generate, write, report.

        Args:
            request_for: the request, once the model is loaded.
            paths: of the takes.
            note: what is to be known of these, for the report.
            codec_prompt: whether the codec's copy of the prompt is written.
            naming: what errors of generating are named in.

        Returns:
            The exit code.
        """
        options, progress = self._options, self._progress
        before = time.perf_counter()
        model = load(
            options.model,
            base_model=options.base_model,
            engine=options.engine,
            threads=options.threads,
            kv_bits=options.kv_bits,
            cast_dtype=options.cast_dtype,
            recipe=self._recipe,
            adapters=self._adapters,
            progress=progress,
        )
        timings = {"model_load_s": time.perf_counter() - before}
        request = request_for(model)
        with naming or nullcontext():
            result = continue_audio(model.engine, request, progress)
        timings |= result.timings
        before = time.perf_counter()
        notes = [*result.notes, *_write(result, paths, codec_prompt, progress)]
        timings["write_s"] = time.perf_counter() - before
        timings["total_s"] = time.perf_counter() - self._started
        report = _report(model, request, result, paths, timings)
        report |= _bars(request, result) | {"parts": _parts(request, result)}
        for output, take in zip(report["outputs"], result.takes, strict=True):
            output["beat_offsets"] = _beat_offsets(take, result, progress)
        report |= _variant(model, options.cast_dtype, self._recipe)
        report["adapters"] = list(options.adapter)
        report["base_model"], report["kv_bits"] = options.base_model, options.kv_bits
        report["melody"] = None if options.melody is None else str(options.melody)
        report["notes"] = notes if note is None else [*notes, note]
        if self._report_file is not None:
            outputs.write_json(self._report_file, report)
        again.remember(report)
        if options.json:
            print_json(report)
        else:
            _show(report, [note for note in result.notes if note not in request.audio.notes])
        return 0


def warn(note: str) -> None:
    """Print a note now, so that nobody waits in vain."""
    print(f"segue: note: {note}", file=sys.stderr)  # noqa: T201


def _write(
    result: Result, paths: Sequence[Path], codec_prompt: bool, progress: Progress
) -> list[str]:
    """Write each take; return what is to be known of the files."""
    notes = []
    with progress.stage("write", len(paths)) as advance:
        for n, (path, take) in enumerate(zip(paths, result.takes, strict=True)):
            for note in audio.write(path, take.played if codec_prompt else take.audio):
                warn(note)
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
        "allow_empty_text_cfg": request.allow_empty_text_cfg,
        "extend_stride": request.extend_stride,
        "top_p": request.top_p,
        "steps": result.steps,
        "ms_per_step": 1000 * timings["token_generate_s"] / max(1, result.steps),
        "real_time_factor": new_seconds / max(1e-9, timings["token_generate_s"]),
        "timings_s": {name: round(s, 4) for name, s in timings.items()},
        "notes": list(result.notes),
        "version": version("segue"),
    }


def _bars(request: Request, result: Result) -> dict[str, Any]:
    """Tempo and bars of the takes, for `--json`."""
    grid, rate = result.grid, request.audio.sample_rate
    report: dict[str, Any] = {"loop_sample": result.loop, "bpm": None, "snap": request.snap}
    if grid is None:
        return report
    samples = len(result.takes[0].audio.samples)
    return report | {
        "bpm": grid.bpm,
        "beats_per_bar": grid.beats_per_bar,
        "downbeat_seconds": round(grid.downbeat, 6),
        "prompt_bars": round((result.join - result.loop) / rate / grid.bar_seconds, 4),
        "new_bars": round((samples - result.join) / rate / grid.bar_seconds, 4),
    }


def _parts(request: Request, result: Result) -> list[dict[str, Any]]:
    """The continuation and the parts behind it, for `--json`."""
    rate = request.audio.sample_rate
    found = []
    for part in result.parts:
        entry: dict[str, Any] = {"text": part.text, "seconds": (part.stop - part.start) / rate}
        if result.grid is not None:
            entry["bars"] = round(entry["seconds"] / result.grid.bar_seconds, 4)
        entry["seconds"] = round(entry["seconds"], 6)
        entry |= {"start_sample": part.start, "stop_sample": part.stop, "seeds": [*part.seeds]}
        found.append(entry)
    return found


def _beat_offsets(take: Take, result: Result, progress: Progress) -> dict[str, Any] | None:
    """How far the beats of what is new lie from the grid; None where nothing can tell."""
    if result.grid is None or not beats.available():
        return None
    try:
        with progress.stage("find beats"):
            found = beats.offsets(take.audio, result.grid, result.join)
    except SegueError as error:
        warn(f"the beats of the continuation are not measured: {error}")
        return None
    return None if found is None else asdict(found)


def _variant(model: Model, cast_dtype: str | None, recipe: Recipe | None) -> dict[str, Any]:
    """How the checkpoint ran, for `--json`: cast, and quantized in memory or on disk."""
    on_disk = model.config.quantization
    how = recipe.params if recipe else on_disk.default if on_disk else None
    method = recipe.method if recipe else on_disk.method["name"] if on_disk else None
    modules = model.engine.load_report.quantized
    return {
        "cast_dtype": cast_dtype,
        "recipe": recipe.to_json() if recipe else None,
        "quantization": asdict(how) | {"method": method, "modules": len(modules)} if how else None,
    }


def _show(report: dict[str, Any], notes: Sequence[str]) -> None:
    """Print the report for people, with the notes that were not printed before."""
    table = Table("part", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for part, name in _PARTS.items():
        if part in report["timings_s"]:
            table.add_row(name, f"{report['timings_s'][part]:.2f}")
    Console().print(table)
    prompt = f"{report['prompt_seconds']:g} s of prompt and " if report["prompt_seconds"] else ""
    print_line(
        f"{prompt}{report['new_seconds']:g} s played {'on ' if prompt else ''}by "
        f"{report['model']} on {report['engine']} ({report['device']}, {report['dtype']}): "
        f"{report['ms_per_step']:.1f} ms a step, {report['real_time_factor']:.1f} × real time",
        wrap=True,
    )
    for note in notes:
        print_line(f"note: {note}", wrap=True)
    if len(report["parts"]) > 1:
        for part in report["parts"]:
            start, stop = (part[f"{end}_sample"] / report["sample_rate"] for end in _ENDS)
            text = part["text"] or "(no text)"
            print_line(f"{start:.2f} to {stop:.2f} s: {text}", wrap=True)
    bars = ""
    if report["bpm"] is not None:
        count = report["prompt_bars"] + report["new_bars"]
        bars = f"{count:.4g} bars at {report['bpm']:g} BPM, "
    for output in report["outputs"]:
        print_line(f"{output['path']}  {output['seconds']:.2f} s, {bars}seed {output['seed']}")
        if (found := output["beat_offsets"]) is not None:
            print_line(
                f"the new part's {found['beats']} beats lie {found['median_ms']:.0f} ms from the "
                f"grid in the median, {found['worst_ms']:.0f} ms at worst; its own tempo is "
                f"{found['bpm']:g} BPM",
                wrap=True,
            )
