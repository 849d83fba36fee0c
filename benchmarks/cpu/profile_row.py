"""Where a step, encoding and decoding spend their time, by kinds of node.

Arguments: folder, threads.  Prints JSON: for each part its milliseconds, and for each kind of node
how many there are, which kernel runs them, and their milliseconds: means of some runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

RUNS = 40
"""Steps that a mean is of."""

LENGTHS = (303, 900, 1400)
"""Of the cache, in columns."""


def main(folder: str, threads: str, *_: str) -> None:
    """Measure and print."""
    from segue.checkpoints.opening import open_checkpoint
    from segue.engine.openvino import OpenVINOEngine, runtime
    from segue.engine.openvino.codec import FRAMES_HEARD, FRAMES_PLAYED

    runtime.PROPERTIES["PERF_COUNT"] = True
    engine = OpenVINOEngine(open_checkpoint(folder), threads=int(threads))
    lm, codec = engine.lm, engine.codec
    random = np.random.default_rng(0)
    found = {}

    def inputs(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    dim, row = engine.config.lm.dim, np.zeros(1, np.int32)
    meter = Meter()
    for n in range(2):  # the first time packs weights, for a prompt and for a step
        run, prompt = lm.run(None), inputs(1, LENGTHS[0], dim)
        part = meter.mean(partial(run, prompt, row), run._request, 1)
        if n:
            found[f"prefill of {LENGTHS[0]}"] = part
        column = inputs(1, 1, dim)
        meter.mean(partial(run, column, row), run._request, 1)
    for length in LENGTHS:
        more = length - RUNS // 2 - run._length
        if more > 0:
            meter.mean(partial(run, inputs(1, more, dim), row), run._request, 1)
        found[f"step at {length}"] = meter.mean(partial(run, column, row), run._request, RUNS)
    run.release()
    hop, config = engine.config.codec.hop_length, engine.config.codec
    wide = config.num_filters * 2 ** len(config.ratios)
    shapes = {
        "analysis": (1, 1, FRAMES_HEARD * hop),
        "encoded": (1, wide, FRAMES_HEARD),
        "decoded": (1, config.codebook_dim, 1500),
        "synthesis": (1, wide, FRAMES_PLAYED),
    }
    for stage, shape in shapes.items():
        request = codec._model(stage, 1, None).create_infer_request()
        values = inputs(*shape) / 10
        title = f"{stage}, {shape[2] // (hop if stage == 'analysis' else 1)} frames"
        meter = Meter()
        meter.mean(partial(request.infer, [values]), request, 1)
        found[title] = meter.mean(partial(request.infer, [values]), request, 4)
    print(json.dumps(found))


class Meter:
    """Times the nodes of a compiled model: OpenVINO reports their means since it was compiled.

    Every run of the model has to go through it.
    """

    def __init__(self) -> None:
        self._runs = 0
        self._spent: dict[tuple[str, str, str], float] = {}

    def mean(self, run: Callable[[], object], request: Any, runs: int) -> dict[str, Any]:
        """Milliseconds of a run, and of its nodes by kind."""
        before = time.perf_counter()
        for _ in range(runs):
            run()
        whole = 1000 * (time.perf_counter() - before) / runs
        self._runs += runs
        earlier, self._spent = self._spent, {}
        kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for node in request.get_profiling_info():
            key = (node.node_name, node.node_type, node.exec_type)
            self._spent[key] = 1000 * node.real_time.total_seconds() * self._runs
            # A node's kernel may change with the shape, its name does not.
            then = sum(ms for other, ms in earlier.items() if other[0] == key[0])
            kinds[key[1:]].append((self._spent[key] - then) / runs)
        rows = [(*kind, len(spent), sum(spent)) for kind, spent in kinds.items()]
        return {"ms": whole, "nodes": sorted(rows, key=lambda row: -row[3])}


if __name__ == "__main__":
    main(*sys.argv[1:])
