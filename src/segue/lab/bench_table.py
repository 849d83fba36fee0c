"""A bench report for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from ..terminal import print_line, print_table
from .figures import BenchFigures

_PARTS = {
    "prompt_encode_s": "encode the prompt",
    "text_encode_s": "encode the text",
    "prefill_s": "prefill",
    "token_generate_s": "generate",
    "decode_full_s": "decode",
    "total_s": "a run",
}
_LOADING = {
    "model_load_s": "load the model",
    "cast_dtype_s": "cast",
    "quantize_s": "quantize",
}


def show(report: Mapping[str, Any]) -> None:
    """Print what `segue.lab.bench.Report.to_json` gave."""
    print_table(_timings(report))
    for line in _lines(report):
        print_line(line)


def _timings(report: Mapping[str, Any]) -> Table:
    first, steady = report["first_run"]["timings_s"], report["steady"]
    table = Table("seconds", "first run", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    if steady:
        count = steady["runs"]
        table.add_column(f"median of {count} more" if count > 1 else "second run", justify="right")
        table.add_column("min to max", justify="right")
    for part, name in _LOADING.items():
        table.add_row(name, f"{report['timings_s'][part]:.3f}")
    for part, name in _PARTS.items():
        if part == "text_encode_s" and not report["sampling"]["text"]:
            continue
        row = [name, f"{first[part]:.3f}"]
        if steady:
            low, middle, high = (steady[k]["timings_s"][part] for k in ("min", "median", "max"))
            row += [f"{middle:.3f}", f"{low:.3f} – {high:.3f}"]
        table.add_row(*row)
    return table


def _lines(report: Mapping[str, Any]) -> list[str]:
    speed, memory, shapes = report["speed"], report["memory"], report["shapes"]
    modules, recipe = report["modules"], report["variant"]["recipe"]
    music_seconds = BenchFigures.from_json(report).music_seconds
    lines = [
        f"{report['model']} on {report['engine']} ({report['device']}, {report['dtype']}): "
        f"{speed['ms_per_step']:.2f} ms a step, {speed['steps_per_s']:.1f} steps a second, "
        f"{speed['real_time_factor']:.2f} × real time, "
        f"{speed['real_time_factor_whole']:.2f} × from prompt to sound",
        f"{music_seconds:.3g} s of music ({shapes['new_frames']} frames) a run, after a "
        f"prompt of {shapes['prompt_frames']} frames, seed {report['seed']}",
    ]
    held = [f"process {megabytes(memory['process_peak_bytes'])}"]
    if memory["engine_peak_bytes"] is not None:
        held.append(f"{report['engine']} {megabytes(memory['engine_peak_bytes'])}")
    lines.append(f"peak memory: {', '.join(held)}")
    lines.append(
        f"weights: {megabytes(memory['weights_bytes'])}, of which a step reads "
        f"{megabytes(memory['step_weights_bytes'])}: "
        f"{report['bandwidth_bytes_per_s'] / 1e9:.2f} GB a second"
    )
    if recipe:
        lines.append(
            f"quantized: {len(modules['quantized'])} modules, {recipe['bits']} bits in groups of "
            f"{recipe['group_size']}, {recipe['mode']}, {recipe['scope']}, "
            f"{recipe.get('method', 'nearest')}"
            + (f", {len(recipe['plan']['modules'])} of them otherwise" if "plan" in recipe else "")
        )
    if modules["left"]:
        lines.append(f"left, for their rows do not fit: {', '.join(modules['left'])}")
    lines += [f"note: {note}" for note in report["notes"]]
    if report["audio"]:
        lines += report["audio"].values()
    return lines


def megabytes(count: int) -> str:
    """Write bytes in memory for people: `1.68 GB`, `50.5 MB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
