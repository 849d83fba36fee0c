"""Where a launch of the kernel `layer` spends its time: its phases, and the barriers between.

    python -m benchmarks.gpu.phases --shape small --bits 0 4

Needs CUDA.  The first block notes a multiprocessor's clock before and after every grid barrier, so
a barrier's time is what it costs and how late the last block is.  Times are means over the layers
of a launch but the first; together they are more than the L2 cache holds.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from segue.checkpoints.config import LMConfig
from segue.engine.mlx import kernels
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lm import Layer

from .shapes import DECODERS

LAUNCHES = 20
CASES = {
    "one take": (1, 1, 0),
    "guided": (2, 1, 16),
    "guided, 4 takes": (8, 4, 16),
    "16 takes": (16, 16, 0),
    "64 takes": (64, 64, 0),
}
"""Rows of the batch, those of them with a text, and its tokens."""

MAX_NOTES = 1 << 10
NOTE = """
__device__ unsigned* notes;
__device__ long long began;

__device__ void note() {
  if (threadIdx.x == 0 && blockIdx.x == 0) *notes++ = (unsigned)(clock64() - began);
}
"""
BEGIN = """
if (threadIdx.x == 0 && blockIdx.x == 0) {
  notes = reinterpret_cast<unsigned*>(scratch + NOTES_AT);
  began = clock64();
}
"""
BARRIER = "__device__ __forceinline__ void grid_barrier(unsigned* counter, Meanwhile meanwhile) {"


def noting(source: str, functions: str, notes_at: int) -> tuple[str, str]:
    """A kernel's source that notes the clock around its barriers, and at its end.

    Args:
        source: of the kernel.
        functions: what it calls.
        notes_at: where in `scratch` the notes begin, in bytes.

    Returns:
        The source and the functions.
    """
    before, _, after = functions.partition(BARRIER)
    body, _, rest = after.partition("\n}\n")
    before = before.replace("template <class Meanwhile>", NOTE + "template <class Meanwhile>")
    functions = f"{before}{BARRIER}\n  note();{body}\n  note();\n}}\n{rest}"
    return BEGIN.replace("NOTES_AT", str(notes_at)) + source + "\nnote();\n", functions


class Noted:
    """Replaces `runtime.run`, and stores the clock of the last launch."""

    def __init__(self) -> None:
        self._run = runtime.run
        self._scratch = mx.zeros(0)
        self._from = 0

    def __call__(
        self,
        name: str,
        source: str,
        inputs: Any,
        constants: Any,
        outputs: Any,
        functions: str,
        **launch: Any,
    ) -> list[mx.array]:
        """See `runtime.run`."""
        ((size,), dtype) = outputs["scratch"]
        self._from = -(-size // 16) * 16
        source, functions = noting(source, functions, self._from)
        grown = outputs | {"scratch": ((self._from + 4 * MAX_NOTES,), dtype)}
        found = self._run(name, source, inputs, constants, grown, functions=functions, **launch)
        self._scratch = found[-1]
        return found

    def ticks(self, layers: int, phases: int) -> np.ndarray:
        """Clock ticks of a layer's phases and barriers, in turn: the mean of all but the first."""
        notes = np.array(self._scratch)[self._from :].view(np.uint32)[: 2 * layers * phases - 1]
        ticks = np.append(np.diff(notes.astype(np.int64), prepend=0), 0)
        return ticks.reshape(layers, -1)[1:-1].mean(axis=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=[s for s in DECODERS if s != "toy"], default="small")
    parser.add_argument("--bits", type=int, nargs="+", choices=[0, 4, 8], default=[0, 4])
    parser.add_argument("--positions", type=int, default=1500, help="in the cache")
    parser.add_argument("--layers", type=int, default=8, help="of a launch, at least 3")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clock", type=float, default=1755, help="of the GPU, in MHz")
    options = parser.parse_args()
    if not kernels.available():
        sys.exit("no CUDA here: the kernel runs nowhere else")
    print("| bits | | µs a layer, of a launch | µs of phases, and of barriers | sum |")
    print("|--:|---|--:|---|--:|")
    for bits in options.bits:
        for case in options.cases:
            played, us = measured(options.shape, bits, CASES[case], options)
            told = " ".join(f"({t:.1f})" if n % 2 else f"{t:.1f}" for n, t in enumerate(us))
            print(f"| {bits} | {case} | {played:.1f} | {told} | {us.sum():.1f} |", flush=True)


def measured(
    shape: str, bits: int, case: tuple[int, int, int], options: argparse.Namespace
) -> tuple[float, np.ndarray]:
    """Microseconds a layer takes, and its phases and barriers."""
    (rows, takes, tokens), count = case, options.layers
    decoder = DECODERS[shape]
    dim, heads = decoder["hidden_size"], decoder["num_attention_heads"]
    layers = [Layer(LMConfig(dim, 1, heads, 4 * dim, 4, 2048)) for _ in range(count)]
    for layer in layers:
        layer.set_dtype(mx.float16)
        if bits:
            nn.quantize(layer, 64, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
        kernels.packed_layer(layer)
    x = mx.random.normal((rows, dim)).astype(mx.float16)
    size = (rows, 2, heads, options.positions + 4, dim // heads)
    caches = [mx.full(size, 0.01, mx.float16) for _ in layers]
    at = mx.full((8,), options.positions)[:1]
    texts = None
    if tokens:
        keys = mx.random.normal((1, heads, tokens, dim // heads)).astype(mx.float16)
        texts = [kernels.packed_text(layer, (keys, keys)) for layer in layers]
    following = kernels.packed_layer(layers[0]).data
    mx.eval(x, caches, at, [] if texts is None else texts)

    def play(x: mx.array) -> mx.array:
        return kernels.layers_forward(x, layers, caches, at, texts, takes, following)

    def many(x: mx.array) -> mx.array:
        for _ in range(LAUNCHES):
            x = play(x)
        return x

    compiled = mx.compile(many)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        mx.eval(compiled(x))
        best = min(best, time.perf_counter() - start)
    noted = Noted()
    with patch.object(runtime, "run", noted):
        for _ in range(3):
            mx.eval(play(x))
    ticks = noted.ticks(count, 6 if tokens else 5)
    return 1e6 * best / LAUNCHES / count, ticks / options.clock


if __name__ == "__main__":
    main()
