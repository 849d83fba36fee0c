"""Many takes on one GPU, from samples to samples: `python -m benchmarks.gpu.throughput`.

MusicGen's shapes with random weights: so many takes of one prompt, beside the same in batches of
`transformers` and of a CUDA graph of torch's own kernels.  segue's row is the whole way of a
request, resampling and splicing included.  The others' are reckoned from some steps and from
decoding as many codes with cuDNN in TF32, `--most` takes at a time: prompt, sampling beyond top-k
and splicing cost them nothing here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np

from segue.audio import from_array
from segue.continuation import Request, continue_audio
from segue.engine.mlx import MLXEngine

from . import shapes

FRAME_RATE = 50
SAMPLE_RATE = 32_000
Figures = dict[str, float]


def segue_row(options: argparse.Namespace) -> Figures:
    """Requests of all takes at once; medians of their parts."""
    mx.set_cache_limit(shapes.CACHE_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        engine = MLXEngine(shapes.checkpoint(options.shape, Path(folder)))
        engine.read_weights()
    noise = np.random.default_rng(0).standard_normal((round(options.prompt * SAMPLE_RATE), 1))
    request = Request(
        from_array((0.1 * noise).astype(np.float32), SAMPLE_RATE),
        prompt_seconds=options.prompt,
        output_seconds=options.seconds,
        variations=options.takes,
        seed=1,
    )
    runs: list[Figures] = []
    for _ in range(options.rounds + 1):
        mx.reset_peak_memory()
        start = time.perf_counter()
        times = continue_audio(engine, request).timings
        all_s = time.perf_counter() - start
        runs.append(
            {
                "steps s": times["token_generate_s"],
                "decode s": times["decode_full_s"],
                "all s": all_s,
                "peak GB": mx.get_peak_memory() / 1e9,
            }
        )
    return {what: statistics.median(run[what] for run in runs[1:]) for what in runs[0]}


def transformers_row(options: argparse.Namespace) -> Figures:
    """`generate` of a batch in float16, and its codec."""
    from .torch_rows import TransformersRow

    lengths = options.prompt, options.seconds, options.steps
    row = TransformersRow(False, options.shape, *lengths, takes=options.takes)
    row.run("")
    found = row.run("")
    steps_s = found["ms a step"] / 1000 * _steps(options)
    return _reckoned(options, steps_s, found["peak GB"])


def graph_row(options: argparse.Namespace) -> Figures:
    """A CUDA graph of a batch's step in float16, and `transformers`' codec."""
    from .torch_rows import GraphRow

    lengths = options.prompt, options.seconds, 5 * options.steps
    row = GraphRow(options.shape, *lengths, takes=options.takes)
    row.run("")
    found = row.run("")
    steps_s = found["ms a step"] / 1000 * _steps(options)
    return _reckoned(options, steps_s, found["peak GB"])


ROWS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "segue": segue_row,
    "transformers": transformers_row,
    "torch CUDA graph": graph_row,
}
FORMS = {
    "steps s": "{:.2f}",
    "decode s": "{:.2f}",
    "all s": "{:.2f}",
    "new audio, s a second": "{:.0f}",
    "peak GB": "{:.1f}",
}


def _steps(options: argparse.Namespace) -> int:
    """Of a continuation: its frames, and what the delays of codebooks add."""
    return round(FRAME_RATE * (options.seconds - options.prompt)) + 3


def _reckoned(options: argparse.Namespace, steps_s: float, peak_gb: float) -> Figures:
    """The figures of a row of torch, with the seconds that decoding takes."""
    from .torch_rows import CodecRow

    codec = CodecRow(options.shape, tf32=True)
    shape = options.takes, 4, round(FRAME_RATE * options.seconds)
    codes = np.random.default_rng(0).integers(0, 64, shape)
    decode_s = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for first in range(0, options.takes, options.most):
            codec.decode(codes[first : first + options.most])
        decode_s = time.perf_counter() - start
    return {
        "steps s": steps_s,
        "decode s": decode_s,
        "all s": steps_s + decode_s,
        "peak GB": peak_gb,
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], prog="python -m benchmarks.gpu.throughput"
    )
    parser.add_argument("--shape", choices=shapes.DECODERS, default="small")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--takes", type=int, default=64)
    parser.add_argument("--most", type=int, default=16, help="takes that torch decodes at once")
    parser.add_argument("--prompt", type=float, default=6, help="seconds")
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--steps", type=int, default=20, help="of rows that are reckoned")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the same goes as JSON")
    options = parser.parse_args()
    new_s = options.takes * (options.seconds - options.prompt)
    print("| | " + " | ".join(FORMS) + " |\n|---" + "|--:" * len(FORMS) + "|", flush=True)
    rows: dict[str, Figures] = {}
    for name in options.rows:
        try:
            found = ROWS[name](options)
        except (ImportError, RuntimeError) as error:  # whatever a peer fails with is its result
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"| {name} | {lines[0][:100]} |" + " |" * (len(FORMS) - 1), flush=True)
            continue
        found["new audio, s a second"] = new_s / found["all s"]
        rows[name] = found
        about = "≈ " if name != "segue" else ""
        cells = " | ".join(about + form.format(found[what]) for what, form in FORMS.items())
        print(f"| {name}, {options.takes} takes | {cells} |", flush=True)
    sys.stdout.flush()
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
