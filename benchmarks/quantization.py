"""What methods of rounding lose, on the forty held-out pieces: `python -m benchmarks.quantization`.

Prints a Markdown table: nats per code of KL divergence from the checkpoint as it is stored, without
words and with each piece's own, and what share of the nearest value's at 4 bits in groups of 64
that is. Scales and biases are float16 and counted in the bits. With `--shape` no checkpoint is
needed: it measures the time and the memory that a layer of that shape takes. With `--table` the
variants are those that goals were set for (`quantization_table`).
"""

import argparse
import resource
import time
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
from segue.lab.quality.judge import pieces
from segue.quantization import rounding
from segue.quantization.calibration import TextCodes, Window, of_takes
from segue.quantization.evaluation import Distributions, divergence
from segue.quantization.forward import Windows, weights_of
from segue.quantization.preparation import quantize_with
from segue.recipe_options import with_method
from segue.terminal import progress_for

from . import quantization_table

SHAPES = {"small": (1024, 4096), "medium": (1536, 6144), "large": (2048, 8192)}


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
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            seconds = time.process_time() - started
            print(
                f"{name} {columns} x {rows}, {method}: {seconds:.1f} s of one core, "
                f"peak {peak:.2f} GiB",
                flush=True,
            )


def main() -> None:
    """Read the options, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=BUILT_IN)
    parser.add_argument("--takes", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--shape", choices=SHAPES, help="a layer of random weights instead")
    parser.add_argument(
        "--table", action="store_true", help="every step of rounding and planning, beside its goal"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=quantization_table.FOLDER,
        help="where --table keeps what is done, so as to go on from there (default: %(default)s)",
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
    else:
        (shaped if args.shape else judged)(args)


if __name__ == "__main__":
    main()
