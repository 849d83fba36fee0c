"""See the package."""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FEW = "", "guided", "4 takes"
MANY = "8 takes", "16 takes", "32 takes", "64 takes"
WORKERS = {
    "segue float16": (*FEW, "guided, 4 takes", *MANY),
    "segue 8-bit": FEW,
    "segue 4-bit": (*FEW, "guided, 4 takes", *MANY),
    "plain MLX loop": ("",),
    "transformers": ("",),
    "transformers static, compiled": ("",),
    "torch CUDA graph": ("",),
}
SHAPES = ("toy", "small", "medium", "large")
COLUMNS = (
    ("ms a step", "{:.2f}"),
    ("× real time", "{:.1f}"),
    ("encode s", "{:.3f}"),
    ("prefill s", "{:.3f}"),
    ("first audio s", "{:.2f}"),
    ("decode s", "{:.2f}"),
    ("end to end s", "{:.2f}"),
    ("peak GB", "{:.2f}"),
    ("planned GB", "{:.2f}"),
    ("share of floor", "{:.2f}"),
)
FRAME_RATE = 50


class Worker:
    """A row's process, which is waited for no longer than a time box."""

    def __init__(self, row: str, shape: str, options: argparse.Namespace) -> None:
        self.row, self.shape, self.box = row, shape, options.time_box
        steps = options.steps
        arguments = {"row": row, "shape": shape, "steps": steps}
        arguments |= {"prompt_s": options.prompt, "output_s": options.seconds}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "benchmarks.gpu.worker", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("a process without pipes")
        self._to, self._from = self._process.stdin, self._process.stdout
        self.ready = self._answer()

    def measure(self, variant: str) -> dict[str, Any]:
        """One measurement, or `{"failed": why}`."""
        if self._process.poll() is not None:
            return {"failed": "the process ended"}
        self._to.write(f"{variant}\n".encode())
        self._to.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        there, _, _ = select.select([self._from], [], [], self.box)
        if not there:
            self.stop()
            return {"failed": f"not done in {self.box:g} s"}
        line = self._from.readline()
        if not line:
            return {"failed": f"the process ended with {self._process.wait()}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure, and write JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.gpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES[1:])
    parser.add_argument("--rows", nargs="+", choices=WORKERS, default=list(WORKERS))
    parser.add_argument("--variants", nargs="+", help="of rows, such as '' and '16 takes'")
    parser.add_argument("--rounds", type=int, default=5, help="in which all rows alternate")
    parser.add_argument("--prompt", type=float, default=6, help="seconds")
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--steps", type=int, default=60, help="of rows that are slow")
    parser.add_argument("--seconds-budget", type=float, default=540, help="for all of it")
    parser.add_argument("--time-box", type=float, default=120, help="seconds for one answer")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="only print the table of these; a row of a later one takes an earlier one's place",
    )
    parser.add_argument("--verbose", action="store_true", help="show what rows print")
    options = parser.parse_args()
    if options.merge:
        try:
            runs = [json.loads(path.read_text()) for path in options.merge]
            print(table(latest(runs)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"--merge takes what --out wrote ({error or type(error).__name__})")
        return
    if not options.out.parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.parent}")
    entries: list[dict[str, Any]] = []
    until = time.monotonic() + options.seconds_budget
    share = options.seconds_budget / len(options.shapes)
    for n, shape in enumerate(options.shapes):
        left = len(options.shapes) - n - 1
        entries += measured(shape, options, until - left * share * 0.9, entries)
        options.out.write_text(json.dumps(entries, indent=1))
    print(table(entries))


def measured(
    shape: str, options: argparse.Namespace, until: float, before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """All rows of a shape, round by round, for as long as there is time."""
    workers, entries = [], []
    for row in options.rows:
        if time.monotonic() > until:
            break
        worker = Worker(row, shape, options)
        entry: dict[str, Any] = {"shape": shape, "row": row, "runs": {}, **worker.ready}
        entry |= {"prompt": options.prompt, "seconds": options.seconds}
        entries.append(entry)
        print(f"{shape}, {row}: {worker.ready}", file=sys.stderr, flush=True)
        if "failed" not in worker.ready:
            workers.append((worker, entry))
    for n in range(options.rounds + 1):  # the first warms up
        for worker, entry in workers:
            for variant in WORKERS[worker.row]:
                if options.variants and variant not in options.variants:
                    continue
                if time.monotonic() > until or "failed" in entry:
                    continue
                found = worker.measure(variant)
                print(f"{shape}, {worker.row}, {variant}: {found}", file=sys.stderr, flush=True)
                if "failed" in found:
                    entry["failed"] = found["failed"]
                elif n > 0:
                    entry["runs"].setdefault(variant, []).append(found)
        options.out.write_text(json.dumps(before + entries, indent=1))
    for worker, _ in workers:
        worker.stop()
    return entries


def latest(runs: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several runs, each from the last one that measured it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in (entry for entries in runs for entry in entries):
        key = entry["shape"], entry["row"]
        if entry["runs"] or key not in found:
            found[key] = entry
    return list(found.values())


def table(entries: Iterable[dict[str, Any]]) -> str:
    """A Markdown table of medians."""
    merged: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    about: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        key = entry["shape"], entry["row"]
        about[key] = about.get(key, {}) | entry
        for variant, runs in entry["runs"].items():
            merged.setdefault((*key, variant), []).extend(runs)
        if not entry["runs"]:
            merged.setdefault((*key, ""), [])
        elif "failed" in entry:
            for variant in WORKERS[entry["row"]]:
                merged.setdefault((*key, variant), [])
    order = [
        (shape, row, variant)
        for shape in SHAPES
        for row, variants in WORKERS.items()
        for variant in variants
        if (shape, row, variant) in merged
    ]
    lines = ["| shape | | " + " | ".join(what for what, _ in COLUMNS) + " | runs |"]
    lines.append("|---|---" + "|--:" * (len(COLUMNS) + 1) + "|")
    for shape, row, variant in order:
        runs, of_row = merged[shape, row, variant], about[shape, row]
        name = f"{row}, {variant}" if variant else row
        if not runs:
            why = of_row.get("failed", "not measured in the time there was")
            lines.append(f"| {shape} | {name} | {why} |" + " |" * len(COLUMNS))
            continue
        middle = {what: statistics.median(run[what] for run in runs) for what in runs[0]} | {
            "× real time": 1000 / FRAME_RATE / statistics.median(r["ms a step"] for r in runs)
        }
        if "bytes" in of_row:
            floor_ms = 1000 * of_row["bytes"] / of_row["bytes per second"]
            middle["share of floor"] = floor_ms / middle["ms a step"]
        cells = []
        for what, form in COLUMNS:
            reckoned = f"reckoned {what}"
            if reckoned in middle:
                cells.append("≈ " + form.format(middle[reckoned]))
            else:
                cells.append(form.format(middle[what]) if what in middle else "–")
        lines.append(f"| {shape} | {name} | " + " | ".join(cells) + f" | {len(runs)} |")
    kinds = sorted({json.dumps(entry.get("about", {})) for entry in about.values()})
    return "\n".join([*lines, "", *kinds])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
