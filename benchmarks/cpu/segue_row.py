"""One checkpoint on one engine, as `benchmarks.cpu` runs it in a process of its own.

Arguments: folder, threads, runs, seconds, engine.  Prints JSON.  With 0 runs it only
starts and generates one step, which fills the cache of compiled models.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segue.lab.machine import peak_memory_bytes

from . import work

if TYPE_CHECKING:
    from segue.checkpoints.checkpoint import Checkpoint

START = time.perf_counter()
FOUR_STEPS = 40
"""Steps of four takes and of one, at the beginning of the continuation."""


def engine_named(name: str, checkpoint: Checkpoint, threads: int) -> Any:
    """An engine for processors: `native`, `native int8` for activations of that, or `openvino`."""
    name, _, activations = name.partition(" ")
    if name == "native":
        from segue.engine.native.engine import NativeEngine

        return NativeEngine(checkpoint, threads=threads, activations=activations or None)
    from segue.engine.openvino import OpenVINOEngine

    return OpenVINOEngine(checkpoint, threads=threads)


def value_bytes(engine: Any) -> int:
    """Bytes of a key or value in an engine's cache."""
    return engine.native.kv_bits // 8 if engine.name == "native" else 4


def median_of_steps(columns: Iterator[np.ndarray]) -> float:
    """Seconds of the middle one of some steps."""
    found, before = [], time.perf_counter()
    for _ in columns:
        found.append(time.perf_counter() - before)
        before = time.perf_counter()
    return statistics.median(found)


def main(folder: str, threads: str, runs: str, seconds: str, name: str) -> None:
    """Measure and print."""
    from segue.checkpoints.opening import open_checkpoint
    from segue.engine.base import Sampling
    from segue.pattern import UNKNOWN, delay

    checkpoint = open_checkpoint(folder)
    tensors = checkpoint.codec
    engine = engine_named(name, checkpoint, int(threads))
    start_s = time.perf_counter() - START
    random = np.random.default_rng(0)
    samples = (0.1 * random.standard_normal((6 * 32_000, 1))).astype(np.float32)
    codes = engine.encode(samples)
    whole = np.full((4, round(50 * float(seconds))), UNKNOWN, np.int32)
    whole[:, :300] = codes
    lm = engine.config.lm
    sequence = delay(whole, lm.delays, lm.special_token)[None]
    decoded_codes = random.integers(0, lm.cardinality, whole.shape)
    if runs == "0":
        next(engine.prefill(sequence, (0,), Sampling()))
        engine.decode(decoded_codes)
        print(json.dumps({"start_s": start_s}))
        return

    def median(run: Callable[[], object]) -> float:
        """Seconds of the middle one of some runs after a first."""
        found = []
        for _ in range(1 + int(runs)):
            before = time.perf_counter()
            run()
            found.append(time.perf_counter() - before)
        return statistics.median(found[1:])

    encode_s = median(lambda: engine.encode(samples))
    prefill_s = median(lambda: engine.prefill(sequence, (0,), Sampling()))
    columns = engine.prefill(sequence, (0,), Sampling())
    next(columns)
    before = time.perf_counter()
    steps = sum(1 for _ in columns)
    step_s = (time.perf_counter() - before) / steps
    del columns
    columns = engine.prefill(sequence[..., : 303 + FOUR_STEPS], (0, 1, 2, 3), Sampling())
    next(columns)
    four_s = median_of_steps(columns)
    columns = engine.prefill(sequence[..., : 303 + FOUR_STEPS], (0,), Sampling())
    next(columns)
    one_s = median_of_steps(columns)
    del columns
    decode_s = median(lambda: engine.decode(decoded_codes))
    codec_work = partial(work.operations_of_the_codec, config=engine.config.codec)
    print(
        json.dumps(
            {
                "start_s": start_s,
                "encode 6 s, s": encode_s,
                "prefill 6 s, s": prefill_s,
                "ms a step": 1000 * step_s,
                "four takes, times one": four_s / one_s,
                "decode 30 s, s": decode_s * 1500 / whole.shape[1],
                "peak memory, GB": peak_memory_bytes() / 1e9,
                "bytes a step": work.bytes_of_a_step(
                    Path(folder), lm, 300, whole.shape[1], value_bytes(engine)
                ),
                "prefill operations": work.operations_of_prefill(lm, 303),
                "encode operations": codec_work("encoder", tensors=tensors, frames=300),
                "decode operations": codec_work("decoder", tensors=tensors, frames=1500),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
