"""What `segue continue` and `segue generate` report: as JSON, and for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.table import Table

from . import beats
from .checkpoints.recipe import Recipe
from .errors import SegueError
from .model import Model
from .progress import Progress
from .request import Request
from .result import Result, Take
from .terminal import print_line, print_table

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
_CUT_NAMES = {"new": "new part", "loop": "loop"}


def warn(note: str) -> None:
    """Print a note now, so that nobody waits in vain."""
    print(f"segue: note: {note}", file=sys.stderr)  # noqa: T201


def report_of(
    model: Model,
    request: Request,
    result: Result,
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
        "outputs": [],
        "sample_rate": request.audio.sample_rate,
        "channels": request.audio.channels,
        "join_sample": result.join,
        "prompt_seconds": result.prompt_frames / codec.frame_rate,
        "new_seconds": new_seconds,
        "codes": [lm.num_codebooks, result.prompt_frames + result.new_frames],
        "guided": result.guided,
        "text": None if request.texts else request.text,
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
        "parts": _parts(request, result),
    } | _bars(request, result)


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


def beat_offsets(take: Take, result: Result, progress: Progress) -> dict[str, Any] | None:
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


def variant_of(model: Model, cast_dtype: str | None, recipe: Recipe | None) -> dict[str, Any]:
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


def show(report: dict[str, Any], notes: Sequence[str]) -> None:
    """Print the report for people, with the notes that were not printed before."""
    table = Table("part", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for part, name in _PARTS.items():
        if part in report["timings_s"]:
            table.add_row(name, f"{report['timings_s'][part]:.2f}")
    print_table(table)
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
    said: set[int] = set()
    for output in report["outputs"]:
        bars = ""
        if report["bpm"] is not None:
            count = output["seconds"] / (60 / report["bpm"] * report["beats_per_bar"])
            bars = f"{count:.4g} bar{'s' * (round(count, 3) != 1)} at {report['bpm']:g} BPM, "
        cut = "" if output["cut"] == "whole" else f"the {_CUT_NAMES[output['cut']]}, "
        seed = output["seed"]
        print_line(f"{output['path']}  {cut}{output['seconds']:.2f} s, {bars}seed {seed}")
        if seed in said:
            continue
        said.add(seed)
        if (found := output["beat_offsets"]) is not None:
            print_line(
                f"the new part's {found['beats']} beats lie {found['median_ms']:.0f} ms from the "
                f"grid in the median, {found['worst_ms']:.0f} ms at worst; its own tempo is "
                f"{found['bpm']:g} BPM",
                wrap=True,
            )
