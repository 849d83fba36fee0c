"""How long the first request on a fresh machine takes: nothing compiled, nothing kept on disk.

    python -m benchmarks.gpu.first_use --shape small

Each row is a process of its own, whose caches (segue's, MLX's, the driver's) begin in an empty
folder; then a second process of the same, which finds what the first one kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WEIGHTS = ("float16", "8-bit", "4-bit")
COLUMNS = ("start s", "load s", "first column s", "load and first s", "second request s")
ASKED = {"load and first s": 5.0}
"""Of every process, the first one included."""


def measured(weights: str, shape: str, text: str) -> dict[str, Any]:
    """Measure in this process, which has not used the device before.

    Args:
        weights: one of `WEIGHTS`.
        shape: one of `shapes.DECODERS`.
        text: of the requests; with one, they are guided.

    Returns:
        Seconds by `COLUMNS`; under `compiled`, what MLX compiled.
    """
    began = time.perf_counter()
    import mlx.core as mx
    import numpy as np

    from segue.audio import from_array
    from segue.checkpoints.recipe import Recipe
    from segue.continuation import Continuation, Request
    from segue.engine.mlx import MLXEngine

    from . import shapes
    from .segue_row import BITS, RATE

    mx.eval(mx.zeros((1,)))
    found: dict[str, Any] = {"start s": time.perf_counter() - began}
    mx.set_cache_limit(shapes.CACHE_BYTES)
    bits = BITS[weights]
    recipe = Recipe("decoder-linears", bits, 32 if shape == "toy" else 64) if bits else None
    samples = np.random.default_rng(0).standard_normal((6 * RATE, 1))
    audio = from_array((0.1 * samples).astype(np.float32), RATE)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = shapes.checkpoint(shape, Path(folder))
        began = time.perf_counter()
        engine = MLXEngine(checkpoint, recipe=recipe)
        engine.read_weights()
        found["load s"] = time.perf_counter() - began
        for name in ("first column s", "second request s"):
            began = time.perf_counter()
            request = Request(audio, text=text, seed=1, prompt_seconds=6, output_seconds=8)
            next(iter(Continuation(engine, request).frames()))
            found[name] = time.perf_counter() - began
    found["load and first s"] = found["load s"] + found["first column s"]
    kept = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    found["compiled"] = sorted(path.stem for path in kept.rglob("*.ptx"))
    return found


def in_process(weights: str, shape: str, text: str, caches: Path) -> dict[str, Any]:
    """Measure in a process of its own, whose caches are in a folder."""
    variables = {name: str(caches) for name in ("XDG_CACHE_HOME", "TMPDIR", "CUDA_CACHE_PATH")}
    environment = {k: v for k, v in os.environ.items() if k != "MLX_PTX_CACHE_DIR"} | variables
    command = [sys.executable, "-m", "benchmarks.gpu.first_use", "--text", text]
    command += ["--shape", shape, "--here", weights]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def table(rows: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """A Markdown table: what was measured beside what is asked."""
    lines = ["| | " + " | ".join(COLUMNS) + " | MLX compiled |", "|---" + "|--:" * 6 + "|"]
    for name, found in rows:
        cells = [f"{found[column]:.2f}" for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(found['compiled'])} |")
    asked = [f"≤ {ASKED[column]:g}" if column in ASKED else "" for column in COLUMNS]
    return "\n".join([*lines, "| asked | " + " | ".join(asked) + " | |"])


def main() -> None:
    """Measure and print; fail if it takes longer than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], prog="python -m benchmarks.gpu.first_use"
    )
    parser.add_argument("--shape", choices=("toy", "small", "medium", "large"), default="small")
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS)
    parser.add_argument("--text", default="", help="of the requests, which are guided then")
    parser.add_argument("--verbose", action="store_true", help="name what MLX compiled")
    parser.add_argument("--out", type=Path, help="where the same goes as JSON")
    parser.add_argument("--here", choices=WEIGHTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measured(options.here, options.shape, options.text)))
        return
    rows = []
    for weights in options.weights:
        with tempfile.TemporaryDirectory() as caches:
            for which in ("fresh", "kept"):
                found = in_process(weights, options.shape, options.text, Path(caches))
                rows.append((f"{options.shape}, {weights}, {which}", found))
                if options.verbose:
                    print(*found["compiled"], sep="\n", file=sys.stderr)
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps(dict(rows), indent=1))
    late = [name for name, found in rows for what in ASKED if found[what] > ASKED[what]]
    sys.exit(f"later than asked: {', '.join(late)}" if late else 0)


if __name__ == "__main__":
    main()
