"""See the package."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from . import checkpoints

ROWS = ("4 bits", "8 bits", "float32")
TARGETS = {
    "first start s": {},
    "second start s": dict.fromkeys(ROWS, 2.0),
    "encode 6 s, s": dict.fromkeys(ROWS, 0.5),
    "prefill 6 s, s": dict.fromkeys(ROWS, 0.4),
    "ms a step": {"4 bits": 10.0, "8 bits": 16.0, "float32": 46.0},
    "decode 30 s, s": dict.fromkeys(ROWS, 3.5),
    "peak memory, GB": {"4 bits": 1.0},
    "logits beside MLX": {"4 bits": 1e-3, "8 bits": 1e-3, "float32": 1e-4},
    "logits, stepwise": {"4 bits": 1e-3, "8 bits": 1e-3, "float32": 1e-4},
}


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every row")
    parser.add_argument("--runs", type=int, default=5, help="of each part but the steps")
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        made = checkpoints.write(folder, options.rows)
        bandwidth = bytes_per_second(options.threads)
        found: dict[str, dict[str, float]] = {}
        for row in options.rows:
            # The cache of compiled models is this run's own: the first start fills it.
            environment = {"XDG_CACHE_HOME": str(Path(temporary) / row)}
            first = child("segue_row", made[row], options, environment, starting=True)
            found[row] = child("segue_row", made[row], options, environment)
            found[row] |= {
                "first start s": first["start_s"],
                "second start s": found[row].pop("start_s"),
            }
            found[row] |= child("agreement", made[row], options, environment)
        if find_spec("torch") and find_spec("transformers") and not options.no_peer:
            name = f"transformers {version('transformers')}, float32"
            found[name] = child("transformers_row", made["float32"], options, {})
            peer = found[name]["ms a step"]
            for row in options.rows:
                found[row]["times transformers"] = peer / found[row]["ms a step"]
    for row in options.rows:
        floor = 1000 * found[row].pop("bytes a step") / bandwidth
        found[row]["share of memory floor"] = floor / found[row]["ms a step"]
    show(found, bandwidth, options)


def child(
    module: str,
    folder: Path,
    options: argparse.Namespace,
    environment: dict[str, str],
    starting: bool = False,
) -> dict[str, float]:
    """What a row's process measured."""
    arguments = [folder, options.threads, 0 if starting else options.runs, options.seconds]
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", f"benchmarks.cpu.{module}", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    print(f"{folder.name}, {module}: {done.stdout.decode().splitlines()[-1]}", file=sys.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def bytes_per_second(threads: int) -> float:
    """How fast `threads` threads read memory together."""
    parts = [np.ones(1 << 26, np.float32) for _ in range(threads)]
    best = 0.0
    for _ in range(5):
        readers = [threading.Thread(target=part.sum) for part in parts]
        start = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, sum(p.nbytes for p in parts) / (time.perf_counter() - start))
    return best


def show(found: dict[str, dict[str, float]], bandwidth: float, options: argparse.Namespace) -> None:
    """Print the table, and what it was measured on."""
    console = Console()
    table = Table(title="MusicGen small, random weights, no text")
    table.add_column("")
    for row in found:
        table.add_column(row, justify="right")
    for what in (*TARGETS, "times transformers", "share of memory floor"):
        cells = []
        for row, values in found.items():
            target = TARGETS.get(what, {}).get(row)
            if what == "times transformers" and row in ROWS:
                target = 5.0
            bound = "" if target is None else f" ({'≥' if 'times' in what else '≤'} {target:g})"
            cells.append(f"{values[what]:.3g}{bound}" if what in values else "–")
        table.add_row(what, *cells)
    console.print(table)
    steps = round((options.seconds - 6) * 50) + 3
    console.print(
        f"{processor()}, {options.threads} threads, {bandwidth / 1e9:.0f} GB/s read; load average "
        f"at the end {os.getloadavg()[0]:.1f}.  Prompt 6 s, {steps} steps, top-k 250, one take; "
        f"steps are a mean over all of them, everything else a median of {options.runs} after a "
        f"warm-up.  openvino {version('openvino')}.",
        highlight=False,
    )


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "processor of an unknown name"


if __name__ == "__main__":
    main()
