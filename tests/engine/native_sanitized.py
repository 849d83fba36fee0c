"""Run the native library under sanitizers: `native_sanitized.py LIBRARY`; see its test."""

import sys
from pathlib import Path

import numpy as np


def main(path: str) -> None:
    from segue.checkpoints.config import LMConfig
    from segue.checkpoints.layouts import lm_shapes
    from segue.engine.native import library, packing

    library._compiled = lambda: Path(path)
    # Memory of the heap, where what lies beside it is guarded.
    packing.zeros = lambda count: np.zeros(max(count, 1), np.uint8)

    from segue.engine.native.lm import Cache, NativeLM, Rows, TextCache
    from segue.engine.openvino.weights import Weights

    class Array:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def read(self) -> np.ndarray:
            return self.values

    random = np.random.default_rng(0)
    config = LMConfig(
        dim=96, num_layers=2, num_heads=3, ffn_dim=160, cardinality=50, delays=(0, 1, 2, 3)
    )
    tensors = {}
    for name, shape in lm_shapes(config, 32).items():
        tensors[name] = Array(0.1 * random.standard_normal(shape).astype(np.float32))
    for name in library.load().segue_paths().decode().split():
        for half_cache in (False, True):
            lm = NativeLM(config, Weights(tensors), 3, half_cache, name)
            cross = [
                (random.standard_normal((2, 1, 3, 5, 32)).astype(np.float32)) for _ in range(2)
            ]
            text = TextCache(lm, [(pair[0], pair[1]) for pair in cross])
            hidden = random.standard_normal((303, 96)).astype(np.float32)
            base = Cache(lm, 303)
            lm.run([Rows(base, hidden, text)])
            rows = [Cache(lm, 3, base) for _ in range(9)]
            hidden[1] = np.nan
            hidden[2] = np.inf
            hidden[3] = 1e38
            for n in range(3):
                lm.run(
                    [
                        Rows(row, hidden[n : n + 1], (None, text)[i % 2])
                        for i, row in enumerate(rows)
                    ]
                )
        sys.stdout.write(f"{name}\n")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
