"""The codec on one GPU, beside torch with cuDNN: `python -m benchmarks.gpu.codec`.

EnCodec of MusicGen's shape with random weights.  Each row is one call on the host's side, samples
or codes in its memory before and after; rows take turns, the first round warms up, medians are
printed.  torch's rows are `transformers`' EnCodec, in TF32, which is what torch does unasked, and
in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.execution import Execution

from . import shapes

FRAME_RATE = 50
SAMPLE_RATE = 32_000
WINDOW = 158
"""Frames that a preview decodes for two seconds."""

Row = tuple[str, Callable[[], object]]


def engine(shape: str, execution: Execution | None = None) -> MLXEngine:
    """An engine whose codec has the weights that `even` gives it."""
    with tempfile.TemporaryDirectory() as folder:
        found = MLXEngine(shapes.checkpoint(shape, Path(folder)), execution=execution)
    even(found)
    return found


def even(engine: MLXEngine) -> None:
    """Give a codec random weights through which signals neither grow nor fade."""
    for module in engine.codec.modules():
        for name in ("weight", "Wx", "Wh"):
            weight = module.get(name)
            if weight is None or weight.ndim < 2:
                continue
            # Of a transposed convolution each output has two taps.
            spread = 2 * weight.shape[2] if type(module).__name__ == "TransposedWeight" else 0
            random = np.random.default_rng(weight.size).standard_normal(weight.shape)
            spread = spread or weight.size // weight.shape[0]
            module[name] = mx.array((random * spread**-0.5).astype(np.float32))
    random = np.random.default_rng(0).standard_normal(engine.codec.codebooks.shape)
    engine.codec.codebooks = mx.array((0.5 * random).astype(np.float32))
    mx.eval(engine.codec.parameters())


def codes_of(engine: MLXEngine, takes: int, frames: int) -> np.ndarray:
    """Random codes `(takes, K, frames)`."""
    config = engine.config.codec
    shape = takes, engine.config.lm.num_codebooks, frames
    return np.random.default_rng(takes).integers(0, config.codebook_size, shape).astype(np.int32)


def noise(seconds: float) -> np.ndarray:
    """Samples `(1, T, 1)`."""
    shape = 1, round(seconds * SAMPLE_RATE), 1
    return (0.3 * np.random.default_rng(1).standard_normal(shape)).astype(np.float32)


def segue_rows(name: str, engine: MLXEngine, options: argparse.Namespace) -> Iterator[Row]:
    """What is measured of an engine."""
    frames = round(FRAME_RATE * options.seconds)
    for takes in options.takes:
        label = f"{name}, decode {takes} × {options.seconds:g} s"
        yield label, partial(engine.decode, codes_of(engine, takes, frames))
    yield f"{name}, decode {WINDOW} frames", partial(engine.decode, codes_of(engine, 1, WINDOW))
    yield (
        f"{name}, encode {options.prompt:g} s",
        partial(engine.encode, noise(options.prompt)),
    )


def torch_rows(options: argparse.Namespace) -> Iterator[Row]:
    """The same of `transformers`' EnCodec."""
    from .torch_rows import CodecRow

    frames, entries = round(FRAME_RATE * options.seconds), 64
    samples = noise(options.prompt)[..., 0]
    for name, tf32 in (("torch, TF32", True), ("torch, float32", False)):
        codec = CodecRow(options.shape, tf32)
        for takes in (n for n in options.takes if n <= options.most):
            codes = np.random.default_rng(0).integers(0, entries, (takes, 4, frames))
            yield f"{name}, decode {takes} × {options.seconds:g} s", partial(codec.decode, codes)
        yield f"{name}, encode {options.prompt:g} s", partial(codec.encode, samples)


def differences(fused: MLXEngine, portable: MLXEngine, frames: int) -> str:
    """How far the kernels are from the portable way, in words."""
    codes = codes_of(fused, 2, frames)
    ours, theirs = fused.decode(codes), portable.decode(codes)
    alone = np.array_equal(fused.decode(codes[1]), ours[1])
    samples = noise(frames / FRAME_RATE)
    same = (fused.encode(samples) == portable.encode(samples)).mean()
    return (
        f"kernels beside the portable way, {frames} frames: samples differ by "
        f"{np.abs(ours - theirs).max():.1e} of {np.abs(theirs).max():.1f} at most; "
        f"{100 * same:.2f} % of codes are equal; a take alone and in a batch is "
        f"{'equal' if alone else 'NOT equal'}"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], prog="python -m benchmarks.gpu.codec"
    )
    parser.add_argument("--shape", choices=("toy", "small"), default="small")
    parser.add_argument("--takes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--most", type=int, default=16, help="takes at once with torch")
    parser.add_argument("--seconds", type=float, default=30, help="of what is decoded")
    parser.add_argument("--prompt", type=float, default=6, help="seconds of what is encoded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--portable", action="store_true", help="time the portable way too")
    parser.add_argument("--out", type=Path, help="where the same goes as JSON, in milliseconds")
    options = parser.parse_args()
    mx.set_cache_limit(shapes.CACHE_BYTES)
    fused = engine(options.shape)
    portable = engine(options.shape, Execution())
    rows = list(segue_rows("segue", fused, options))
    if options.portable:
        rows += segue_rows("segue without kernels", portable, options)
    try:
        rows += torch_rows(options)
    except (ImportError, RuntimeError) as error:
        print(f"no rows of torch: {error}", file=sys.stderr)
    on = ", ".join(sorted(fused.kernels & kernels.CODEC)) or "none"
    print(f"{fused.device}, kernels of the codec: {on}")
    print(differences(fused, portable, min(300, round(FRAME_RATE * options.seconds))), flush=True)
    times: dict[str, list[float]] = {}
    for n in range(options.rounds + 1):
        for name, run in rows:
            mx.reset_peak_memory()
            start = time.perf_counter()
            run()
            if n > 0:
                times.setdefault(name, []).append(time.perf_counter() - start)
    print("\n| | ms | runs |\n|---|--:|--:|")
    for name, found in times.items():
        print(f"| {name} | {1000 * statistics.median(found):.1f} | {len(found)} |")
    if options.out:
        medians = {name: 1000 * statistics.median(found) for name, found in times.items()}
        options.out.write_text(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
