"""See the package."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import checkpoints, machine

NARROW = "4 bits int8"
"""The row whose activations are int8, which the native engine alone has."""
ROWS = ("4 bits", NARROW, "8 bits", "float32")
ENGINES = ("native", "openvino")
TARGETS = {
    "first start s": {},
    "second start s": dict.fromkeys(ROWS, 2.0),
    "encode 6 s, s": dict.fromkeys(ROWS, 0.5),
    "prefill 6 s, s": dict.fromkeys(ROWS, 0.5),
    "ms a step": {"4 bits": 10.0, NARROW: 10.0, "8 bits": 14.0, "float32": 46.0},
    "four takes, times one": dict.fromkeys(ROWS, 2.0),
    "decode 30 s, s": dict.fromkeys(ROWS, 3.5),
    "peak memory, GB": {"4 bits": 0.8, NARROW: 0.8},
    "logits beside MLX": {"4 bits": 1e-2, "8 bits": 1e-2, "float32": 1e-4},
    "logits, stepwise": {"4 bits": 1e-2, "8 bits": 1e-2, "float32": 1e-4},
    "KL to MLX, stepwise": dict.fromkeys(ROWS, 1e-6) | {NARROW: 2e-3},
    "times transformers": dict.fromkeys(ROWS, 6.0),
}
TARGETS_WITHOUT_VNNI = {
    "prefill 6 s, s": dict.fromkeys(ROWS, 0.8),
    "ms a step": {"4 bits": 12.0, NARROW: 12.0, "8 bits": 18.0, "float32": 46.0},
}
"""Those that are others on two cores with AVX2 alone."""
TARGETS_BANDWIDTH = 25e9
"""Of the machines that the targets were set on: two cores with AVX-512 and VNNI, or with AVX2."""

BY_OPERATIONS = {
    "encode": "encode 6 s, s",
    "prefill": "prefill 6 s, s",
    "decode": "decode 30 s, s",
}
"""The parts that are bound by arithmetic, and their rows."""


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every row")
    parser.add_argument("--runs", type=int, default=5, help="of each part but the steps")
    parser.add_argument(
        "--rounds", type=int, default=1, help="of all rows in turn; medians of them are shown"
    )
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--profile", action="store_true", help="show where the time goes, by node")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept for the next time")
    options = parser.parse_args()
    peer = find_spec("torch") and find_spec("transformers") and not options.no_peer
    rounds: list[dict[str, dict[str, float]]] = []
    profiles: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        made = checkpoints.write(options.folder or Path(temporary), options.rows)
        for _ in range(options.rounds):
            rounds.append(measure(made, options, Path(temporary), bool(peer)))
        if options.profile:
            for row in options.rows:
                profiles[row] = child("profile_row", made[row], options, {}, "openvino")
    found = {
        row: {what: statistics.median(r[row][what] for r in rounds) for what in values}
        for row, values in rounds[0].items()
    }
    show(found, options)
    for row, profile in profiles.items():
        show_profile(row, profile)


def measure(
    made: dict[str, Path], options: argparse.Namespace, temporary: Path, peer: bool
) -> dict[str, dict[str, float]]:
    """Measure every row once, and the machine's limits beside it."""
    found: dict[str, dict[str, float]] = {}
    for row, named in product(options.rows, options.engines):
        if row == NARROW and named != "native":
            continue
        column, engine = f"{row}, {named}", f"{named} int8" if row == NARROW else named
        # The cache of compiled models is this run's own: the first start fills it.
        cache = tempfile.mkdtemp(dir=temporary)
        environment = {"XDG_CACHE_HOME": cache}
        first = child("segue_row", made[row], options, environment, engine, starting=True)
        # Measured before each row: on a shared machine it changes.
        reach = {
            "read GB/s": machine.bytes_per_second(options.threads) / 1e9,
            "float32 GFLOP/s": machine.flops_per_second(options.threads) / 1e9,
        }
        found[column] = child("segue_row", made[row], options, environment, engine)
        found[column] |= {
            "first start s": first["start_s"],
            "second start s": found[column].pop("start_s"),
        }
        found[column] |= child("agreement", made[row], options, environment, engine) | reach
        add_shares(row, found[column])
    if peer:
        name = f"transformers {version('transformers')}, float32"
        found[name] = child("transformers_row", made["float32"], options, {})
        for values in found.values():
            values["times transformers"] = found[name]["ms a step"] / values["ms a step"]
        del found[name]["times transformers"]
    return found


def target_of(what: str, row: str) -> float | None:
    """The target of a row's figure on this machine; None if there is none."""
    path = os.environ.get("SEGUE_NATIVE_PATH", "")
    vnni = "avx512_vnni" in machine.processor() and path in ("", "avx512")
    own = {} if vnni else TARGETS_WITHOUT_VNNI
    return own.get(what, TARGETS.get(what, {})).get(row)


def add_shares(row: str, values: dict[str, float]) -> None:
    """Compute a row's share of the machine's limits, and the target's."""
    read = values.pop("bytes a step")
    bandwidth, operations = values["read GB/s"] * 1e9, values["float32 GFLOP/s"] * 1e9
    target = target_of("ms a step", row) or math.inf
    values["memory floor, ms a step"] = 1000 * read / bandwidth
    values["step, share of the floor"] = values["memory floor, ms a step"] / values["ms a step"]
    values["share that the target asks, at 25 GB/s"] = read / TARGETS_BANDWIDTH / (target / 1000)
    values["target at this bandwidth, ms a step"] = target * TARGETS_BANDWIDTH / bandwidth
    for part, what in BY_OPERATIONS.items():
        needed = values.pop(f"{part} operations")
        values[f"{part}, share of the peak"] = needed / operations / values[what]
        values[f"{part}, GFLOP/s the target asks"] = (
            needed / (target_of(what, row) or math.inf) / 1e9
        )


def child(
    module: str,
    folder: Path,
    options: argparse.Namespace,
    environment: dict[str, str],
    engine: str = "",
    starting: bool = False,
) -> dict[str, Any]:
    """What a row's process measured."""
    arguments = [folder, options.threads, 0 if starting else options.runs, options.seconds]
    arguments += [engine] if engine else []
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", f"benchmarks.cpu.{module}", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    line = done.stdout.decode().splitlines()[-1]
    if module != "profile_row":
        print(f"{folder.name}, {module} {engine}: {line}", file=sys.stderr)
    found: dict[str, Any] = json.loads(line)
    return found


def show(found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Print the table, and the machine it was measured on."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title="MusicGen small, random weights, no text")
    table.add_column("")
    for row in found:
        table.add_column(row, justify="right")
    hidden = {*TARGETS, "largest logit"}
    shares = [what for what in next(iter(found.values())) if what not in hidden]
    for what in (*TARGETS, *shares):
        cells = []
        for row, values in found.items():
            target = target_of(what, row.partition(",")[0])
            bound = (
                ""
                if target is None
                else f" ({'≥' if what == 'times transformers' else '≤'} {target:g})"
            )
            cells.append(f"{values[what]:.3g}{bound}" if what in values else "–")
        table.add_row(what, *cells, end_section=what == "times transformers")
    console.print(table)
    steps = round((options.seconds - 6) * 50) + 3
    console.print(
        f"{machine.processor()}, {options.threads} threads; load average at the end "
        f"{os.getloadavg()[0]:.1f}.  Prompt 6 s, {steps} steps, top-k 250, one take; steps are a "
        f"mean over all of them, everything else a median of {options.runs} after a warm-up; "
        f"rounds: {options.rounds}.  The floor of a step is reading its weights and its cache once "
        "at the bandwidth measured just before; the peak is that of a large float32 product, "
        f"likewise.  Targets were set at {TARGETS_BANDWIDTH / 1e9:g} GB/s.  "
        f"openvino {version('openvino')}.",
        highlight=False,
    )


def show_profile(row: str, profile: dict[str, Any]) -> None:
    """Print where the time of each part of a row goes."""
    table = Table(title=f"Profile, {row}: means of some runs, by kinds of node")
    for name in ("part", "ms", "nodes", "kernel", "count", "ms of them"):
        right = "ms" in name or name == "count"
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for part, values in profile.items():
        listed = [node for node in values["nodes"] if node[3] >= 0.005 * values["ms"]]
        for n, (kind, kernel, count, ms) in enumerate(listed):
            head = ("", "") if n else (part, f"{values['ms']:.1f}")
            table.add_row(*head, kind, kernel, str(count), f"{ms:.2f}")
        rest = sum(node[3] for node in values["nodes"] if node not in listed)
        table.add_row("", "", "all others", "", "", f"{rest:.2f}", end_section=True)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
