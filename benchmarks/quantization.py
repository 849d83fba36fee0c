"""What methods of rounding lose, on the forty held-out pieces: `python -m benchmarks.quantization`.

Prints a Markdown table: nats per code of KL divergence from the checkpoint as it is stored, without
words and with each piece's own, and what share of the nearest value's at 4 bits in groups of 64
that is. Scales and biases are float16 and counted in the bits. With `--shape` no checkpoint is
needed: it measures the time and the memory that a layer of that shape takes.

With `--shape large --whole` a checkpoint of that shape is written to `--folder` (random float16
weights, 6.5 GB; `--layers` of them), and GPTQ runs over it in a process of its own, with `--takes`
windows of random codes: its peak memory, the time of a layer, and the estimate that it began with.

With `--table` the variants are those that goals were set for (`quantization_table`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from segue import load
from segue.checkpoints.config import LMConfig
from segue.checkpoints.hub import BUILT_IN
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized
from segue.checkpoints.recipe import METHODS, Calibration, Recipe
from segue.checkpoints.recipe_file import names_a_file, read_recipe, read_recipe_file
from segue.lab.machine import peak_memory_bytes
from segue.lab.quality.judge import pieces
from segue.progress import Advance, Progress
from segue.quantization import rounding
from segue.quantization.arithmetic import default_arithmetic
from segue.quantization.calibration import SECONDS, CalibrationSet, TextCodes, Window, of_takes
from segue.quantization.evaluation import Distributions, divergence
from segue.quantization.gptq import gptq
from segue.quantization.preparation import quantize_with
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows
from segue.recipe_options import with_method
from segue.terminal import progress_for

from . import quantization_table
from .random_checkpoint import write

SHAPES = {"toy": (64, 128), "small": (1024, 4096), "medium": (1536, 6144), "large": (2048, 8192)}


def judged(args: argparse.Namespace) -> None:
    """Print the table."""
    progress = progress_for(True)
    checkpoint = open_checkpoint(args.model)
    lm, texts = checkpoint.config.lm, TextCodes(checkpoint)
    judge = [Window(piece.codes, piece.text, piece.name) for piece in pieces()[: args.pieces]]

    started = time.perf_counter()
    music = of_takes(load(args.model).engine, args.takes, args.seed, progress=progress)
    print(f"{args.takes} takes in {time.perf_counter() - started:.0f} s", flush=True)
    conditions = {
        "plain": Windows.of(lm, [w.codes for w in judge]),
        "text": Windows.of(lm, [w.codes for w in judge], [texts.of(w.text) for w in judge]),
        "looked at": of(lm, music.windows[:: max(1, args.takes // 16)], texts),
        "held-out takes": of(lm, music.held_out, texts),
    }
    weight = weights_of(checkpoint.lm)
    baselines = {name: Distributions.of(lm, weight, each) for name, each in conditions.items()}
    print(f"| variant | bits | {' | '.join(conditions)} | ratio | seconds |")
    print(f"|---|{'--:|' * (len(conditions) + 3)}", flush=True)
    reference = None
    for spec in args.variants:
        recipe, size = variant(spec)
        method = recipe.method
        started = time.perf_counter()
        opened = open_checkpoint(args.model)
        if METHODS[method]:
            recipe = replace(recipe, calibration=Calibration(self_takes=args.takes))
            view = quantize_with(opened, recipe, music, "float16", progress)
        else:
            view = quantized(opened, recipe, "float16")
        values = weights_of(view.lm, view.config.quantization)
        for name in list(view.lm):
            view.lm[name].read()
        seconds, lost = time.perf_counter() - started, {}
        for name, each in conditions.items():
            found = Distributions.of(lm, values, each)
            lost[name] = divergence(lm, baselines[name], found).mean()
        reference = lost["plain"] if reference is None else reference
        shown = " | ".join(f"{each:.4f}" for each in lost.values())
        ratio = lost["plain"] / reference
        print(f"| {spec} | {size:g} | {shown} | {ratio:.3f} | {seconds:.0f} |", flush=True)


def variant(spec: str) -> tuple[Recipe, float]:
    """Return what METHOD:BITS:GROUP means, or METHOD:FILE, and its bits a weight."""
    method, _, rest = spec.partition(":")
    if names_a_file(rest):
        recipe, document = read_recipe(Path(rest)), read_recipe_file(Path(rest))
        return with_method(recipe, method, None), document["bits"]
    bits, group = map(int, rest.split(":"))
    return Recipe(bits=bits, group_size=group, method=method), bits + 32 / group


def of(lm: LMConfig, windows: tuple[Window, ...], texts: TextCodes) -> Windows:
    """Windows as the model runs them, with their words."""
    codes = [window.codes for window in windows]
    return Windows.of(lm, codes, [texts.of(window.text) for window in windows])


def shaped(args: argparse.Namespace) -> None:
    """Print time and memory of rounding one layer with random weights and moments."""
    dim, ffn = SHAPES[args.shape]
    random = np.random.default_rng(0)
    for name, columns, rows in (("fc2", ffn, dim), ("fc1", dim, ffn), ("dim to dim", dim, dim)):
        x = random.standard_normal((columns // 8, columns), np.float32)
        H = x.T @ x
        H[np.diag_indices(columns)] += columns // 8
        del x
        weight = random.standard_normal((columns, rows), np.float32)
        for method in ("search", "gptq"):
            started = time.process_time()
            if method == "search":
                rounding.search(weight, 4, 64, rounding.DTYPES["float16"])
            else:
                rounding.calibrated(weight, H, 4, 64, rounding.DTYPES["float16"])
            peak = peak_memory_bytes() / 2**30
            seconds = time.process_time() - started
            print(
                f"{name} {columns} x {rows}, {method}: {seconds:.1f} s of one core, "
                f"peak {peak:.2f} GiB",
                flush=True,
            )


def whole(args: argparse.Namespace) -> None:
    """Print what GPTQ of a whole checkpoint of a shape takes, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=args.folder) as cache:
        folder = write(args.shape, args.folder, args.layers)
        line = [sys.executable, "-m", "benchmarks.quantization", "--shape", args.shape, "--inside"]
        line += [str(folder), "--takes", str(args.takes)]
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        done = subprocess.run(  # noqa: S603 - our own code
            line, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    found = json.loads(done.stdout)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(
        f"{args.shape}, {found['layers']} layers, {size / 1e9:.2f} GB mapped, {args.takes} windows "
        f"({found['rows']} rows), by {found['arithmetic']}: {found['seconds']:.0f} s, of which "
        f"{found['estimating']:.0f} s for the estimate of {found['estimate']} s; peak "
        f"{found['peak'] / 1e9:.2f} GB in all, {found['anonymous'] / 1e9:.2f} GB without what is "
        "mapped"
    )


def inside(args: argparse.Namespace) -> None:
    """Run GPTQ over a checkpoint; prints JSON."""
    checkpoint = open_checkpoint(str(args.inside))
    lm, random = checkpoint.config.lm, np.random.default_rng(args.seed)
    frames = round(SECONDS * checkpoint.config.codec.frame_rate)
    drawn = random.integers(0, lm.cardinality, (args.takes, lm.num_codebooks, frames))
    texts = ("", "piano slow")
    windows = [Window(c.astype(np.int32), texts[n % 2], "") for n, c in enumerate(drawn)]
    music, started, watch = CalibrationSet(tuple(windows)), time.perf_counter(), _Watch()
    gptq(checkpoint, Recipe(method="gptq"), music, progress=watch)
    seconds = time.perf_counter() - started
    found = {
        "layers": lm.num_layers,
        "rows": args.takes * (frames + max(lm.delays) + 1),
        "arithmetic": default_arithmetic().name,
        "seconds": seconds,
        "estimating": watch.began - started,
        "estimate": watch.estimate,
        "peak": peak_memory_bytes(),
        "anonymous": watch.anonymous,
    }
    print(json.dumps(found))


class _Watch(Progress):
    """Takes down the estimate, and the memory that is no file's, ten times a second (Linux)."""

    def __init__(self) -> None:
        self.began, self.estimate, self.anonymous = 0.0, 0, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.anonymous = max(self.anonymous, 1024 * int(line.split()[1]))
            time.sleep(0.1)

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress.stage`."""
        self.began, self.estimate = time.perf_counter(), total or 0

        def advance(done: int, total: int | None = None) -> None:
            minutes = (time.perf_counter() - self.began) / 60
            peak = peak_memory_bytes() / 2**30
            print(
                f"{name}: {done} of {self.estimate} s after {minutes:.1f} min, peak {peak:.2f} GiB "
                f"in all, {self.anonymous / 2**30:.2f} without what is mapped",
                file=sys.stderr,
                flush=True,
            )

        yield advance


def main() -> None:
    """Read the options, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=BUILT_IN)
    parser.add_argument("--takes", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--shape", choices=SHAPES, help="a layer of random weights instead")
    parser.add_argument("--whole", action="store_true", help="GPTQ over all layers of the shape")
    parser.add_argument("--layers", type=int, help="of the checkpoint that is written")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--table", action="store_true", help="every step of rounding and planning, beside its goal"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=quantization_table.FOLDER,
        help="where --table keeps what is done, so as to go on from there, and --whole its "
        "checkpoint (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="print a table.json of --table's")
    parser.add_argument(
        "variants",
        nargs="*",
        default=["nearest:4:64", "search:4:64", "gptq:4:64", "gptq:5:64", "gptq:3:64"],
        help="METHOD:BITS:GROUP, or METHOD:FILE of a recipe; the first is what others are compared "
        "with",
    )
    args = parser.parse_args()
    if args.json is not None:
        quantization_table.printed(args.json)
    elif args.table:
        quantization_table.run(args.folder, args.model, args.takes, args.seed)
    elif args.inside:
        inside(args)
    elif args.shape:
        (whole if args.whole else shaped)(args)
    else:
        judged(args)


if __name__ == "__main__":
    main()
