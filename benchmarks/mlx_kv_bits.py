"""Attention over keys and values in 8 bits on MLX, portably: `python -m benchmarks.mlx_kv_bits`.

Two ways that need no kernel of segue's: products with quantized keys and values
(`mx.quantized_matmul`), and dequantizing them before MLX's own attention. Beside them stands what
segue does, attention over keys and values in the type that it computes in, and the products of the
layer that it is in, which no way changes. Prints, for one layer of
MusicGen small's shape and one query, the median milliseconds by position, each way in turn at every
repetition, and how far scores' results are apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import mlx.core as mx

HEADS, DIM, GROUP, BITS = 16, 64, 64, 8
SHAPES = ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
"""Of a layer's products without text."""

Parts = tuple[mx.array, mx.array, mx.array]


def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """What segue does."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=DIM**-0.5)


def products(q: mx.array, k: Parts, v: Parts) -> mx.array:
    """Attention by products with packed keys and values."""
    scores = mx.quantized_matmul(q * DIM**-0.5, *k, True, GROUP, BITS)
    weights = mx.softmax(scores, axis=-1, precise=True)
    return mx.quantized_matmul(weights, *v, False, GROUP, BITS)


def quantized(x: mx.array) -> Parts:
    """Codes, scales and biases of keys or values."""
    codes, scales, biases = mx.quantize(x, GROUP, BITS)
    return codes, scales, biases


def dequantized(q: mx.array, k: Parts, v: Parts) -> mx.array:
    """Attention over keys and values that are dequantized before."""
    return attend(q, *(mx.dequantize(x, s, b, GROUP, BITS) for x, s, b in (k, v)))


def layer(inputs: list[mx.array], weights: list[mx.array]) -> list[mx.array]:
    """The products of a layer."""
    return [x @ weight for x, weight in zip(inputs, weights, strict=True)]


def timed(run: Callable[[], mx.array | list[mx.array]]) -> float:
    """Milliseconds of a call."""
    started = time.perf_counter()
    mx.eval(run())
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Read the options, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, nargs="+", default=[256, 768, 1536])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4], help="takes at a time")
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    args = parser.parse_args()
    dtype: mx.Dtype = getattr(mx, args.dtype)
    print(f"{mx.default_device()}, {args.dtype}: ms for a query of each take, and MB of its cache")
    print(
        "| takes | positions | as computed | MB | 8 bits, products | 8 bits, dequantized | MB "
        "| the layer's products |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    mx.random.seed(0)
    weights = [mx.random.normal(shape).astype(dtype) for shape in SHAPES]
    for rows in args.rows:
        inputs = [mx.random.normal((rows, columns)).astype(dtype) for columns, _ in SHAPES]
        for positions in args.positions:
            shape = (rows, HEADS, positions, DIM)
            q = mx.random.normal((rows, HEADS, 1, DIM)).astype(dtype)
            k, v = (mx.random.normal(shape).astype(dtype) for _ in range(2))
            packed_k, packed_v = quantized(k), quantized(v)
            mx.eval(q, k, v, packed_k, packed_v, inputs, weights)
            ways: list[Callable[[], mx.array | list[mx.array]]] = [
                partial(attend, q, k, v),
                partial(products, q, packed_k, packed_v),
                partial(dequantized, q, packed_k, packed_v),
                partial(layer, inputs, weights),
            ]
            found: list[list[float]] = [[] for _ in ways]
            for _ in range(args.repetitions):
                for way, times in zip(ways, found, strict=True):
                    times.append(timed(way))
            exact, byte, widened, rest = (statistics.median(times) for times in found)
            sizes = k.nbytes + v.nbytes, sum(part.nbytes for part in (*packed_k, *packed_v))
            print(
                f"| {rows} | {positions} | {exact:.2f} | {sizes[0] / 1e6:.2f} | {byte:.2f} | "
                f"{widened:.2f} | {sizes[1] / 1e6:.2f} | {rest:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
