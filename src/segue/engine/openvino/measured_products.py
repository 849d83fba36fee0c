"""Products by themselves, as a step runs them: to measure what a width costs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import graph
from .packed import Packed
from .runtime import compiled, ops, run


def products(weights: Sequence[Packed], threads: int | None = None) -> Callable[[], object]:
    """Compile products of one row with some weights of one shape, one after the other.

    Args:
        weights: each `(rows, columns)`; packed where OpenVINO keeps it so, else float32.
        threads: see `segue.load`.

    Returns:
        Runs all of them once.
    """
    columns = weights[0].scales.shape[1] * weights[0].params.group_size
    x = graph.parameter("x", (1, columns))
    total = None
    for each in weights:
        matrix = each.constant() if each.fits else graph.constant(each.dense())
        # The least thing that needs all of them; the products themselves depend on x alone.
        product = ops.reduce_max(ops.matmul(x, matrix, False, True), graph.integers(1), True)
        total = product if total is None else ops.add(total, product)
    model = compiled(graph.model([total], [x]), threads, keep=False)
    row = np.random.default_rng(0).standard_normal((1, columns)).astype(np.float32)
    return lambda: run(model, row)
