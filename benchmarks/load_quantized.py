"""How fast a saved quantized checkpoint loads, beside reading and quantizing the original.

    python benchmarks/load_quantized.py --megabytes 400 --bits 4 8

A checkpoint of random float32 weights is made in a temporary folder, and quantized with
`segue quantize`.  Each load is a process of its own, the two kinds alternate, and what counts is
the ratio of the medians.  What was saved is mapped: MLX reads a weight when it is first used.  So
that is also measured with all of it read.  Memory is what the process grew by at its peak, all
weights read, over their bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import CONFIG, write_checkpoint

DIM = 1024
LAYER_BYTES = 4 * (8 * DIM * DIM + 2 * 4 * DIM * DIM)

LOAD = """
import json, sys, time
import mlx.core as mx
import segue.engine.mlx
from segue.lab.machine import peak_memory_bytes
from segue.model import load
from segue.checkpoints.recipe import Recipe
folder, recipe = json.loads(sys.argv[1])
mx.eval(mx.zeros(1))
before, start = peak_memory_bytes(), time.perf_counter()
model = load(folder, engine="mlx", recipe=recipe and Recipe(**recipe))
loaded = time.perf_counter()
model.engine.read_weights()
read = time.perf_counter()
print(json.dumps([loaded - start, read - start, peak_memory_bytes() - before]))
"""


def main() -> None:
    """Make a checkpoint, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=400, help="of the original")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="drop the files from memory first")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        original = Path(temporary) / "original"
        decoder = CONFIG["decoder"] | {
            "hidden_size": DIM,
            "ffn_dim": 4 * DIM,
            "num_attention_heads": 16,
            "num_hidden_layers": max(1, round(options.megabytes * 1e6 / LAYER_BYTES)),
        }
        write_checkpoint(original, config={**CONFIG, "decoder": decoder})
        for bits in options.bits:
            found = compare(original, Recipe(bits=bits), options.runs, options.cold)
            print(json.dumps(found) if options.json else line(found), flush=True)


def compare(original: Path, recipe: Recipe, runs: int, cold: bool) -> dict[str, float]:
    """Load both ways `runs` times, after one that does not count."""
    saved_folder = original.with_name(recipe.name)
    saved = save_quantized(open_checkpoint(str(original)), recipe, saved_folder)
    ways = {"original": (original, vars(recipe)), "saved": (saved_folder, None)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    seconds_read: dict[str, list[float]] = {way: [] for way in ways}
    peak = 0
    for n in range(1 + runs):
        for way, (folder, how) in ways.items():
            if cold:
                forget(folder)
            took, took_read, grew = load(folder, how)
            if n > 0:
                seconds[way].append(took)
                seconds_read[way].append(took_read)
            if way == "saved":
                peak = max(peak, grew)
    slow, fast = (statistics.median(seconds[way]) for way in ways)
    slow_read, fast_read = (statistics.median(seconds_read[way]) for way in ways)
    return {
        "bits": recipe.bits,
        "original_bytes": sum(path.stat().st_size for path in original.glob("*.safetensors")),
        "saved_bytes": saved.bytes,
        "original_s": slow,
        "saved_s": fast,
        "ratio": fast / slow,
        "saved_read_s": fast_read,
        "ratio_read": fast_read / slow_read,
        "saved_peak_over_size": peak / saved.bytes,
    }


def load(folder: Path, recipe: dict[str, object] | None) -> tuple[float, float, int]:
    """A load in a new process: seconds, seconds until all is read, bytes it grew by at its peak."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", LOAD, json.dumps([str(folder), recipe])],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded, read, grew = json.loads(done.stdout)
    return loaded, read, grew


def forget(folder: Path) -> None:
    """Drop the files of `folder` from the system's cache (Linux)."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def line(found: dict[str, float]) -> str:
    """What was found, for people."""
    return (
        f"{found['bits']} bits: {found['original_bytes'] / 1e6:.0f} MB read and quantized in "
        f"{found['original_s']:.3f} s; {found['saved_bytes'] / 1e6:.0f} MB loaded in "
        f"{found['saved_s']:.3f} s, {found['ratio']:.3f} of it, and read to the last byte in "
        f"{found['saved_read_s']:.3f} s, {found['ratio_read']:.3f} of it; "
        f"peak {found['saved_peak_over_size']:.2f} × its size"
    )


if __name__ == "__main__":
    main()
