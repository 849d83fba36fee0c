"""One checkpoint on the OpenVINO engine, as `benchmarks.cpu` runs it in a process of its own.

Arguments: folder, threads, runs, seconds.  Prints JSON.  With 0 runs it only
starts and generates one step, which fills the cache of compiled models.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from . import work

START = time.perf_counter()


def main(folder: str, threads: str, runs: str, seconds: str) -> None:
    """Measure and print."""
    from segue.checkpoints.opening import open_checkpoint
    from segue.engine.base import Sampling
    from segue.engine.openvino import OpenVINOEngine
    from segue.pattern import UNKNOWN, delay

    checkpoint = open_checkpoint(folder)
    tensors = checkpoint.codec
    engine = OpenVINOEngine(checkpoint, threads=int(threads))
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
    decode_s = median(lambda: engine.decode(decoded_codes))
    codec_work = partial(work.operations_of_the_codec, config=engine.config.codec)
    print(
        json.dumps(
            {
                "start_s": start_s,
                "encode 6 s, s": encode_s,
                "prefill 6 s, s": prefill_s,
                "ms a step": 1000 * step_s,
                "decode 30 s, s": decode_s * 1500 / whole.shape[1],
                "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
                "bytes a step": work.bytes_of_a_step(Path(folder), lm, 300, whole.shape[1]),
                "prefill operations": work.operations_of_prefill(lm, 303),
                "encode operations": codec_work("encoder", tensors=tensors, frames=300),
                "decode operations": codec_work("decoder", tensors=tensors, frames=1500),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
