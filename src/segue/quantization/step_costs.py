"""What each unit adds to a decode step on this machine, by the way it is quantized."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from ..checkpoints.config import QuantizationParams
from ..progress import SILENT, Progress
from .losses import Options, way_name
from .units import Unit

MOST_COPIES = 16
ROUNDS = 15
"""Timed after one to warm up; the fastest counts, for whatever else runs makes others slower."""

Table = dict[str, dict[str, float]]
"""Milliseconds of a step, by the name of a unit and by `way_name`."""


def step_costs(
    engine: str,
    units: Sequence[Unit],
    options: Options,
    threads: int | None = None,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.perf_counter,
) -> Table:
    """Time the product of every distinct shape and way on the engine that runs the model.

    A shape's weights are copied until they are as many as the model's, so that they come from where
    the model's do; one copy alone is timed too, and what a call costs beside its products drops out
    of the difference.  A step without text runs no cross-attention, so that costs nothing.

    Args:
        engine: `"mlx"`, `"native"` or `"openvino"`.
        units: of the model.
        options: the ways that are timed.
        threads: see `segue.load`.
        progress: shows the shapes.
        clock: seconds.
    """
    run = [unit for unit in units if not unit.reads_text]
    weights = sum(unit.weights for unit in run)
    wanted = {
        (unit.rows, unit.columns, _run_as(engine, params)): min(
            MOST_COPIES, max(2, weights // unit.weights)
        )
        for unit in run
        for params in options.ways(unit)
    }
    timed: dict[tuple[int, int, QuantizationParams], float] = {}
    with progress.stage("time each width", len(wanted), "products") as advance:
        for n, (key, copies) in enumerate(wanted.items()):
            packed = _packed(*key, copies)
            many, one = (_runner(engine, key[2], part, threads) for part in (packed, packed[:1]))
            timed[key] = 1000 * max(_seconds(many, clock) - _seconds(one, clock), 0.0)
            timed[key] /= copies - 1
            advance(n + 1)
    return {
        unit.name: {
            way_name(way): 0.0
            if unit.reads_text
            else timed[unit.rows, unit.columns, _run_as(engine, way)]
            for way in options.ways(unit)
        }
        for unit in units
    }


_WIDENED = QuantizationParams(3, 32)
"""Stands for all that OpenVINO computes in float32: rows of every model are groups of it."""


def _run_as(engine: str, params: QuantizationParams) -> QuantizationParams:
    """The way that takes as long, of those that are timed."""
    return _WIDENED if engine == "openvino" and params.bits not in (4, 8) else params


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    run()
    rounds = []
    for _ in range(ROUNDS):
        start = clock()
        run()
        rounds.append(clock() - start)
    return min(rounds)


Parts = tuple[mx.array, mx.array, mx.array]


def _packed(rows: int, columns: int, params: QuantizationParams, copies: int) -> list[Parts]:
    """Random weights, as many as `copies`."""
    found = []
    for key in mx.random.split(mx.random.key(0), copies):
        weight = mx.random.normal((rows, columns), key=key)
        packed, scales, biases = mx.quantize(weight, params.group_size, params.bits)
        mx.eval(packed, scales, biases)
        found.append((packed, scales, biases))
    return found


def _runner(
    engine: str, params: QuantizationParams, packed: Sequence[Parts], threads: int | None
) -> Callable[[], object]:
    # Imported here: an engine's library may not be installed.
    if engine == "mlx":
        from ..engine.mlx.measured_products import products as on_mlx

        return on_mlx(packed, params)
    from ..engine.openvino.packed import Packed

    weights = [Packed(params, *(np.array(part) for part in parts)) for parts in packed]
    if engine == "native":
        from ..engine.native.measured_products import products as on_native

        return on_native(weights, threads)
    from ..engine.openvino.measured_products import products as on_openvino

    return on_openvino(weights, threads)
