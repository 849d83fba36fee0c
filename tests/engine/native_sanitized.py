"""Run the native library under sanitizers: `native_sanitized.py LIBRARY`; see its test."""

import sys
from pathlib import Path

import numpy as np


def main(path: str) -> None:
    from segue.checkpoints.config import LMConfig, QuantizationConfig, QuantizationParams
    from segue.checkpoints.layouts import lm_shapes
    from segue.checkpoints.tensors import of_arrays
    from segue.engine.native import library, packing

    library.compiled = lambda: Path(path)
    # Memory of the heap, where what lies beside it is guarded.
    packing.zeros = lambda count: np.zeros(max(count, 1), np.uint8)
    packing.CHUNK = packing.HUGE_PAGE = 1

    from segue.engine.native.lm import Cache, NativeLM, Rows, TextCache
    from segue.engine.openvino.weights import Weights

    random = np.random.default_rng(0)
    config = LMConfig(
        dim=96, num_layers=2, num_heads=3, ffn_dim=160, cardinality=50, delays=(0, 1, 2, 3)
    )
    plain = {
        name: 0.1 * random.standard_normal(shape).astype(np.float32)
        for name, shape in lm_shapes(config, 32).items()
    }
    packed = dict(plain)
    for name, values in plain.items():
        if ".layers." in name and values.ndim == 2:
            rows, columns = values.shape
            module = name.removesuffix(".weight")
            packed[name] = random.integers(0, 2**32, (rows, columns // 8), np.uint32)
            packed[f"{module}.scales"] = np.full((rows, columns // 32), 0.01, np.float32)
            packed[f"{module}.biases"] = np.full((rows, columns // 32), -0.08, np.float32)
    four_bits = QuantizationConfig(QuantizationParams(4, 32), {})
    texts = [random.standard_normal((2, 1, 3, 5, 32)).astype(np.float32) for _ in range(2)]
    for name in library.load().segue_paths().decode().split():
        for arrays, quantization, bits, activations in (
            (plain, None, 32, 16),
            (packed, four_bits, 16, 16),
            (packed, four_bits, 8, 8),
        ):
            weights = Weights(of_arrays(arrays, Path()), quantization)
            lm = NativeLM(config, weights, 3, bits, name, activations=activations)
            text = TextCache(lm, [(keys, values) for keys, values in texts])
            hidden = random.standard_normal((303, config.dim)).astype(np.float32)
            base = Cache(lm, 303)
            lm.run([Rows(base, hidden, text)])
            rows = [Cache(lm, 3, base) for _ in range(9)]
            hidden[1:4, :] = [[np.nan], [np.inf], [1e38]]
            for n in range(3):
                column = hidden[n : n + 1]
                lm.run([Rows(row, column, (None, text)[i % 2]) for i, row in enumerate(rows)])
        sys.stdout.write(f"{name}\n")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
