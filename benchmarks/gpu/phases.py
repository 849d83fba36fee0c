"""Where a launch of the kernel `layer` spends its time: its phases, and the barriers between.

    python -m benchmarks.gpu.phases --shape small --bits 0 4

Needs CUDA.  The first block notes a multiprocessor's clock before and after every grid barrier, so
a barrier's time is what it costs and how late the last block is.  One layer is played again and
again, so what the L2 cache still has of it is not read from memory.
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

LAUNCHES = 50
CASES = {"one take": (1, 1, 0), "guided": (2, 1, 16), "guided, 4 takes": (8, 4, 16)}
"""Rows of the batch, those of them with a text, and its tokens."""

BARRIER = "grid_barrier(counter);"
NOTE = (
    "if (threadIdx.x == 0 && blockIdx.x == 0) "
    "reinterpret_cast<unsigned*>(scratch + NOTES_AT)[{}] = (unsigned)(clock64() - began);\n"
)
MAX_NOTES = 32


def noting(source: str, notes_at: int) -> tuple[str, int]:
    """A kernel's source that notes the clock around its barriers, and at its end.

    Args:
        source: of the kernel.
        notes_at: where in `scratch` the notes begin, in bytes.

    Returns:
        The source, and how many notes there are.
    """
    first, *rest = source.split(BARRIER)
    text, count = "long long began = clock64();\n" + first, 0
    for part in rest:
        text += NOTE.format(count) + BARRIER + "\n" + NOTE.format(count + 1) + part
        count += 2
    return (text + NOTE.format(count)).replace("NOTES_AT", str(notes_at)), count + 1


class Noted:
    """Replaces `runtime.run`, and stores the clock of the last launch."""

    def __init__(self) -> None:
        self._run = runtime.run
        self._scratch = mx.zeros(0)
        self._from = self._count = 0

    def __call__(
        self, name: str, source: str, inputs: Any, constants: Any, outputs: Any, **launch: Any
    ) -> list[mx.array]:
        """See `runtime.run`."""
        ((size,), dtype) = outputs["scratch"]
        self._from = -(-size // 16) * 16
        source, self._count = noting(source, self._from)
        grown = outputs | {"scratch": ((self._from + 4 * MAX_NOTES,), dtype)}
        found = self._run(name, source, inputs, constants, grown, **launch)
        self._scratch = found[1]
        return found

    def ticks(self) -> np.ndarray:
        """Clock ticks of each phase and each barrier, in turn."""
        notes = np.array(self._scratch)[self._from :].view(np.uint32)[: self._count]
        return np.diff(notes.astype(np.int64), prepend=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=[s for s in DECODERS if s != "toy"], default="small")
    parser.add_argument("--bits", type=int, nargs="+", choices=[0, 4, 8], default=[0, 4])
    parser.add_argument("--positions", type=int, default=1500, help="in the cache")
    parser.add_argument("--clock", type=float, default=1755, help="of the GPU, in MHz")
    options = parser.parse_args()
    if not kernels.available():
        sys.exit("no CUDA here: the kernel runs nowhere else")
    decoder = DECODERS[options.shape]
    dim, heads = decoder["hidden_size"], decoder["num_attention_heads"]
    print("| bits | | µs a launch, many in a row | µs of phases, and of barriers | sum |")
    print("|--:|---|--:|---|--:|")
    for bits in options.bits:
        layer = Layer(LMConfig(dim, 1, heads, 4 * dim, 4, 2048))
        layer.set_dtype(mx.float16)
        if bits:
            nn.quantize(layer, 64, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
        for case, (rows, takes, tokens) in CASES.items():
            x = mx.random.normal((rows, dim)).astype(mx.float16)
            cache = mx.zeros((rows, 2, heads, options.positions + 4, dim // heads), mx.float16)
            at = mx.full((8,), options.positions)[:1]
            text = None
            if tokens:
                keys = mx.random.normal((1, heads, tokens, dim // heads)).astype(mx.float16)
                text = kernels.packed_text(layer, (keys, keys))
            following = kernels.packed_layer(layer).data
            mx.eval(x, cache, at, following, [] if text is None else text)

            def play(
                x: mx.array,
                layer: Layer = layer,
                rest: tuple[Any, ...] = ([cache], at, text and [text], takes, following),
            ) -> mx.array:
                return kernels.layers_forward(x, [layer], *rest)

            def many(x: mx.array, play: Any = play) -> mx.array:
                for _ in range(LAUNCHES):
                    x = play(x)
                return x

            compiled = mx.compile(many)
            best = float("inf")
            for _ in range(5):
                start = time.perf_counter()
                mx.eval(compiled(x))
                best = min(best, time.perf_counter() - start)
            noted = Noted()
            with patch.object(runtime, "run", noted):
                for _ in range(3):
                    mx.eval(play(x))
            us = noted.ticks() / options.clock
            told = " ".join(f"({t:.1f})" if n % 2 else f"{t:.1f}" for n, t in enumerate(us))
            print(f"| {bits} | {case} | {1e6 * best / LAUNCHES:.1f} | {told} | {us.sum():.1f} |")


if __name__ == "__main__":
    main()
