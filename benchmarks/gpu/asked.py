"""What is asked of the GPU beside what is measured, in one table: `python -m benchmarks.gpu.asked`.

Each part is a benchmark of this package with the sizes that are asked for, in a process of its own,
which is waited for no longer than its time box.  What did not end in it is said to be missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]
"""What a benchmark wrote as JSON."""

PARTS: dict[str, float] = {
    "throughput": 60,
    "codec": 90,
    "small": 110,
    "large": 90,
    "first": 80,
    "mixed": 100,
    "peers": 120,
}
"""Seconds that each part may take."""

VARIANTS = {takes: f"{takes} takes" if takes > 1 else "" for takes in (1, 8, 16, 32, 64)}


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        what: it is.
        part: one of `PARTS`.
        value: takes it from what the part found.
        form: of it, with its unit.
        asked: the bound, None where nothing is asked.
        least: whether the bound is a least, not a most.
    """

    what: str
    part: str
    value: Callable[[Any], float]
    form: str
    asked: float | None = None
    least: bool = False

    @property
    def bound(self) -> str:
        """What is asked, in words."""
        sign = "≥" if self.least else "≤"
        return "–" if self.asked is None else f"{sign} {self.asked:g}{self.form.partition('}')[2]}"

    def reached(self, value: float) -> bool:
        """Whether a value is what is asked, or nothing is."""
        if self.asked is None:
            return True
        return value >= self.asked if self.least else value <= self.asked


def _all_s(row: str) -> Callable[[Found], float]:
    return lambda found: float(found[row]["all s"])


def _decoded(takes: int) -> Callable[[Found], float]:
    def value(found: Found) -> float:
        name = next(name for name in found if name.startswith(f"segue, decode {takes} ×"))
        return float(found[name]) / 1000

    return value


def _step(takes: int) -> Callable[[Any], float]:
    return lambda found: statistics.median(
        run["ms a step"] for run in found[0]["runs"][VARIANTS[takes]]
    )


def _first(weights: str) -> Callable[[Found], float]:
    def value(found: Found) -> float:
        name = next(name for name in found if f"{weights}, fresh" in name)
        return float(found[name]["load and first s"])

    return value


def _of_takes(found: Found) -> float:
    """Of the last round: by the whole of it where the batch was never full."""
    mixed = found["rounds"][-1]["mixed"]
    whole = mixed["of the takes' rows a second"]
    return float(mixed.get("of the takes' rows a second, full", whole))


ROWS = (
    Row(
        "64 takes of 24 s on small, end to end",
        "throughput",
        _all_s("segue"),
        "{:.2f} s",
        5,
    ),
    Row(
        "the same, seconds of audio a second",
        "throughput",
        lambda found: found["segue"]["new audio, s a second"],
        "{:.0f}",
        300,
        least=True,
    ),
    *(
        Row(f"the same with {name}, reckoned", "peers", _all_s(name), "{:.1f} s")
        for name in ("transformers", "torch CUDA graph")
    ),
    Row("decode 16 takes of 30 s", "codec", _decoded(16), "{:.3f} s", 0.2),
    Row("decode one take of 30 s", "codec", _decoded(1), "{:.3f} s", 0.05),
    Row("small, float16, one take, a step", "small", _step(1), "{:.2f} ms", 0.6),
    Row("small, float16, 8 takes", "small", _step(8), "{:.2f} ms"),
    Row("small, float16, 16 takes", "small", _step(16), "{:.2f} ms", 1.5),
    Row("small, float16, 32 takes", "small", _step(32), "{:.2f} ms"),
    Row("small, float16, 64 takes", "small", _step(64), "{:.2f} ms", 2.5),
    Row("large, 4-bit, one take", "large", _step(1), "{:.2f} ms", 1.7),
    Row("first 4-bit request, fresh caches, with loading", "first", _first("4-bit"), "{:.1f} s", 5),
    Row("first 8-bit request, fresh caches, with loading", "first", _first("8-bit"), "{:.1f} s", 5),
    Row(
        "64 requests that differ beside 64 takes of one, rows a second",
        "mixed",
        _of_takes,
        "{:.2f}",
        0.8,
        least=True,
    ),
)


def command(part: str, shapes: Mapping[str, str], toy: bool, out: Path) -> list[str]:
    """The command line of a part.

    Args:
        part: one of `PARTS`.
        shapes: for "small" and "large", the shape that is run.
        toy: whether lengths are those of a test.
        out: where its JSON goes.
    """
    small, large = shapes["small"], shapes["large"]
    steps = ["gpu", "--rows", "segue float16", "--variants", *VARIANTS.values(), "--rounds"]
    lengths = ["--prompt", "0.4", "--seconds", "1.8"] if toy else []
    few = ["--rounds", "1"] if toy else []
    arguments: dict[str, list[str]] = {
        "throughput": ["gpu.throughput", "--rows", "segue", "--shape", small, *lengths, *few],
        "codec": ["gpu.codec", "--takes", "1", "16", "--rounds", "3", "--shape", small, *few],
        "small": [*steps, "3", "--shapes", small, *lengths, *few],
        "large": ["gpu", "--rows", "segue 4-bit", "--variants", "", "--rounds", "3"],
        "first": ["gpu.first_use", "--weights", "8-bit", "4-bit", "--shape", small],
        "mixed": ["gpu.mixed", "--no-guidance", "--no-texts", "--shape", small, "--spread", "0.3"],
        "peers": ["gpu.throughput", "--rows", "transformers", "torch CUDA graph", *lengths],
    }
    arguments["large"] += ["--shapes", large, *lengths, *few]
    arguments["mixed"] += (
        ["--requests", "10", "--rows", "4", "--prompt", "0.2", "--seconds", "0.6", *few]
        if toy
        else ["--requests", "128", "--seconds", "30"]  # as long as the takes beside them
    )
    arguments["peers"] += ["--shape", small]
    if toy:
        arguments["codec"] += ["--seconds", "1", "--prompt", "0.5"]
        for part_of in ("throughput", "peers"):
            arguments[part_of] += ["--takes", "3", "--steps", "4"]
    module, *rest = arguments[part]
    return [sys.executable, "-m", f"benchmarks.{module}", *rest, "--out", str(out)]


def measured(part: str, line: list[str], box: float, out: Path) -> tuple[Any, str]:
    """Run a part; what it wrote, or None and why there is nothing.

    Args:
        part: its name.
        line: its command line.
        box: seconds that it may take.
        out: the file that it writes.
    """
    start = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            line, timeout=box, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        said, why = done.stdout, f"the process ended with {done.returncode}"
    except subprocess.TimeoutExpired as error:
        said, why = error.stdout or b"", f"not done in {box:g} s"
    print(f"== {part}, {time.monotonic() - start:.0f} s: {' '.join(line[2:])}", flush=True)
    print(said.decode(errors="replace")[-6000:], flush=True)
    try:
        return json.loads(out.read_text()), ""
    except (OSError, ValueError):
        return None, why


def table(found: Mapping[str, Any], missing: Mapping[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """A Markdown table, and the same as objects.

    Args:
        found: by part, what it wrote.
        missing: by part, why there is nothing.
    """
    lines, objects = ["| | asked | measured | |", "|---|--:|--:|---|"], []
    for row in ROWS:
        entry: dict[str, Any] = {"what": row.what, "asked": row.asked, "at least": row.least}
        try:
            if row.part not in found:
                raise LookupError(missing.get(row.part, "not run"))
            entry["measured"] = row.value(found[row.part])
        except (LookupError, StopIteration, TypeError, statistics.StatisticsError) as error:
            entry["missing"] = str(error).strip("'") or type(error).__name__
            cells = "–", entry["missing"]
        else:
            reached = row.reached(entry["measured"])
            cells = row.form.format(entry["measured"]), "" if reached else "missed"
        objects.append(entry)
        lines.append(f"| {row.what} | {row.bound} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines), objects


def main() -> None:
    """Measure, write JSON and Markdown, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], prog="python -m benchmarks.gpu.asked"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--toy", action="store_true", help="toy sizes, to try it without a GPU")
    parser.add_argument("--seconds-budget", type=float, default=560, help="for all of it")
    parser.add_argument("--out", type=Path, default=Path("asked.json"))
    options = parser.parse_args()
    shapes = dict.fromkeys(("small", "large"), "toy") if options.toy else {}
    until = time.monotonic() + options.seconds_budget
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            out = Path(folder) / f"{part}.json"
            line = command(part, shapes or {"small": "small", "large": "large"}, options.toy, out)
            box = min(PARTS[part], until - time.monotonic())
            if box < 1:
                missing[part] = "no time left"
                continue
            result, why = measured(part, line, box, out)
            if result is None:
                missing[part] = why
            else:
                found[part] = result
            rows, objects = table(found, missing)
            options.out.write_text(json.dumps({"rows": objects, "parts": found}, indent=1))
            options.out.with_suffix(".md").write_text(rows + "\n")
    print(table(found, missing)[0])


if __name__ == "__main__":
    main()
