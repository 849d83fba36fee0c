"""Compare each CUDA kernel with the portable implementation: difference and speed.

    python -m benchmarks.gpu.kernels --shape small

Needs CUDA.  Times are of many calls that are launched one after the other and synchronized once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from segue.checkpoints.config import LMConfig
from segue.engine.mlx import activations, kernels
from segue.engine.mlx.cache import written
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lm import Layer
from segue.engine.mlx.lookups import entry
from segue.engine.mlx.products import QuantizedLinear
from segue.engine.mlx.sampling import Sampler, keys_of, next_tokens
from segue.engine.mlx.sampling import noise as gumbel

from .shapes import DECODERS

CALLS = 200
TOLERANCE = {mx.float32: 1e-4, mx.float16: 4e-3, mx.bfloat16: 3e-2}
"""As a share of the largest value: a few roundings of the type."""


@dataclass(frozen=True)
class Case:
    """One kernel on one shape, and the portable implementation.

    Attributes:
        exact: whether the two must be equal (tokens).
    """

    name: str
    fused: Callable[[], mx.array | None]
    portable: Callable[[], mx.array]
    tolerance: float
    exact: bool = False

    def difference(self) -> float:
        """The largest difference, as a share of the largest value; 0 or 1 for tokens.

        -1 where the kernel does not take the case.
        """
        found, expected = self.fused(), self.portable()
        if found is None:
            return -1.0
        one, other = (np.array(a.astype(mx.float32)) for a in (found, expected))
        if self.exact:
            return float((one != other).any())
        return float(np.abs(one - other).max() / max(1e-9, np.abs(other).max()))


def compile_all(several: Iterable[Case]) -> None:
    """Have the kernels of cases compiled, several at a time, before they run one after another."""
    with runtime.collecting() as found:
        for case in several:
            case.fused()
    runtime.start_compiling(found)


def cases(dim: int, heads: int, rows: int, dtype: mx.Dtype) -> Iterator[Case]:
    """List the kernels with the arguments of a model's step."""
    mx.random.seed(0)
    bound = TOLERANCE[dtype]

    def values(*shape: int) -> mx.array:
        made = mx.random.normal(shape).astype(dtype)
        mx.eval(made)
        return made

    norm = nn.LayerNorm(dim)
    norm.weight, norm.bias = values(dim), values(dim)
    layers: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
        ("norm, qkv", dim, 3 * dim, {"norm": norm}),
        ("out, residual", dim, dim, {"residual": values(rows, dim)}),
        ("norm, fc1, gelu", dim, 4 * dim, {"norm": norm, "gelu": True}),
        ("fc2, residual", 4 * dim, dim, {"residual": values(rows, dim)}),
        ("norm, heads", dim, 8192, {"norm": norm, "dtype": mx.float32}),
    )
    for what, into, out, options in layers:
        for bits in (0, 8, 4):
            layer = nn.Linear(into, out, bias=False)
            layer.weight = values(out, into) * into**-0.5
            if bits:
                layer = QuantizedLinear.from_linear(layer, 64, bits)
            mx.eval(layer.parameters())
            x = values(rows, into)
            yield Case(
                f"linear {bits or dtype.size * 8} bits, {what}",
                partial(kernels.linear, x, layer, **options),
                partial(_linear, x, layer, **options),
                bound,
            )
    head = dim // heads
    for length, position in ((512, 300), (1504, 1500)):
        qkv, cache = values(rows, 3 * dim), values(rows, 2, heads, length, head)
        again, at = cache + 0, mx.array([position])
        mx.eval(again)
        mask = mx.where(mx.arange(length) <= position, 0.0, -mx.inf).astype(dtype)
        yield Case(
            f"attend, {position} positions",
            partial(kernels.attend, qkv, cache, at, heads),
            partial(_attend, qkv, again, position, mask, heads),
            bound,
        )
    for bits in (0, 8, 4):
        block = Layer(LMConfig(dim, 1, heads, 4 * dim, 4, 2048))
        block.set_dtype(dtype)
        block.encoder_attn_layer_norm = norm
        if bits:
            nn.quantize(block, 64, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
        for filled, tokens_of_text, guided in (
            (300, 0, False),
            (1500, 0, False),
            (300, 7, True),
            (300, 32, False),
        ):
            streams = 2 * rows if guided else rows
            x, at = values(streams, dim), mx.array([filled])
            cache = values(streams, 2, heads, filled + 4, head)
            again = cache + 0
            kv, text = None, None
            if tokens_of_text:
                # As much of the sum as x is.
                shape = 1, heads, tokens_of_text, head
                kv = values(*shape), 4 * values(*shape)
                text = kernels.packed_text(block, kv)
            mx.eval(
                kernels.packed_layer(block).data, kv or [], text if text is not None else [], again
            )
            yield Case(
                f"layer {bits or dtype.size * 8} bits, {filled} positions"
                + (f", {tokens_of_text} tokens" if tokens_of_text else "")
                + (", guided" if guided else ""),
                partial(_layer, x, block, cache, at, text, rows),
                partial(_layer_portable, x, block, again, filled, kv, rows),
                2 * bound,
            )
    table = nn.Embedding(4 * 2049, dim)
    table.weight = values(4 * 2049, dim)
    tokens, places = mx.random.randint(0, 2048, (rows, 4)), mx.random.normal((1536, dim))
    tokens, offsets, at = tokens.astype(mx.int32), mx.arange(4) * 2049, mx.array([7])
    yield Case(
        "embed",
        lambda: kernels.embed(tokens, table, places, at, rows),
        lambda: _rows(table, tokens + offsets).sum(axis=1) + entry(places, 7).astype(dtype),
        bound,
    )
    for bits in (0, 4):
        found = nn.QuantizedEmbedding.from_embedding(table, 64, bits) if bits else table
        mx.eval(found.parameters())
        yield Case(
            f"lookup, {bits or dtype.size * 8} bits",
            partial(kernels.lookup, found, tokens + offsets),
            partial(_rows, found, tokens + offsets),
            0,
            exact=True,
        )
    numbers = mx.array(0.9), mx.array(3.0)
    seeds, steps = np.arange(rows) + 7, np.full(rows, 300)
    known, keys = mx.full((rows, 4), -1, mx.int32), keys_of(seeds, steps)
    own = mx.linspace(0.5, 2.0, rows), mx.linspace(-1.0, 3.0, rows)
    partners = mx.arange(rows), rows - 1 - mx.arange(rows)
    logits, noise = 3 * mx.random.normal((rows, 4, 2048)), gumbel(keys[:, 0], keys[:, 1], 4, 2048)
    mx.eval(logits, noise, keys, own, partners)
    for name, mixed, given in (
        ("keys", None, numbers),
        ("a row's own numbers", partners, own),
    ):
        yield Case(
            f"sample, {name}",
            partial(kernels.sample, logits, keys, known, *given, 250, mixed is not None, mixed),
            partial(_sampled, logits, noise, known, given, mixed),
            0,
            exact=True,
        )
    for guided in (False, True):
        logits = 3 * mx.random.normal((rows * (2 if guided else 1), 4, 2048))
        noise, known = mx.random.gumbel((rows, 4, 2048)), mx.full((rows, 4), -1, mx.int32)
        mx.eval(logits, noise, known)
        yield Case(
            "sample" + (", guided" if guided else ""),
            partial(kernels.sample, logits, noise, known, *numbers, 250, guided),
            partial(next_tokens, Sampler(250, guided), logits, known, noise, numbers),
            0,
            exact=True,
        )
        yield Case(
            "likeliest" + (", guided" if guided else ""),
            partial(kernels.sample, logits, None, known, mx.array(0.0), numbers[1], 1, guided),
            partial(next_tokens, Sampler(1, guided), logits, known, None, numbers),
            0,
            exact=True,
        )


def _rows(table: nn.Module, numbers: mx.array) -> mx.array:
    """Rows of an embedding, found on the host: for it MLX would compile a kernel for each type."""
    weight = table.weight
    if isinstance(table, nn.QuantizedEmbedding):
        weight = mx.dequantize(
            weight, table.scales, table.biases, group_size=table.group_size, bits=table.bits
        )
    found = [entry(weight, int(n)) for n in np.array(numbers).reshape(-1)]
    return mx.stack(found).reshape(*numbers.shape, -1)


def _sampled(
    logits: mx.array,
    noise: mx.array,
    known: mx.array,
    numbers: tuple[mx.array, mx.array],
    partners: tuple[mx.array, mx.array] | None,
) -> mx.array:
    temperature, coef = (number.reshape(-1, 1, 1) for number in numbers)
    if partners is not None:
        conditioned, unconditioned = (
            mx.stack([entry(logits, row) for row in np.array(rows).tolist()]) for rows in partners
        )
        logits = unconditioned + (conditioned - unconditioned) * coef
    return next_tokens(Sampler(250, False), logits, known, noise, (temperature, coef))


def _layer(
    x: mx.array,
    block: Layer,
    cache: mx.array,
    position: mx.array,
    text: mx.array | None,
    takes: int,
) -> mx.array | None:
    tokens = 0 if text is None else kernels.tokens_of(text, block)
    if not kernels.layer_fits(block, len(x), x.dtype, tokens):
        return None
    following = kernels.packed_layer(block).data
    texts = None if text is None else [text]
    return kernels.layers_forward(x, [block], [cache], position, texts, takes, following)


def _layer_portable(
    x: mx.array,
    block: Layer,
    cache: mx.array,
    position: int,
    kv: tuple[mx.array, mx.array] | None,
    takes: int,
) -> mx.array:
    mask = mx.arange(cache.shape[3])[None] <= position
    cross = None
    if kv is not None:
        k, v = (mx.repeat(a, len(x), axis=0) for a in kv)
        cross = k, mx.concatenate([v[:takes], mx.zeros_like(v[takes:])])
    return block(x[:, None], cache, position, mask, cross)[0][:, 0]


def _linear(
    x: mx.array,
    layer: nn.Module,
    norm: nn.Module | None = None,
    gelu: bool = False,
    residual: mx.array | None = None,
    dtype: mx.Dtype | None = None,
) -> mx.array:
    y = layer(x if norm is None else norm(x))
    y = activations.gelu(y) if gelu else y
    y = y if residual is None else residual + y
    return y if dtype is None else y.astype(dtype)


def _attend(qkv: mx.array, cache: mx.array, position: int, mask: mx.array, heads: int) -> mx.array:
    rows, dim = cache.shape[0], cache.shape[-1]
    qkv = qkv.reshape(rows, 3, heads, 1, dim)
    cache = written(cache, qkv[:, 1:], position)
    y = mx.fast.scaled_dot_product_attention(
        qkv[:, 0], cache[:, 0], cache[:, 1], scale=dim**-0.5, mask=mask
    )
    return y.reshape(rows, -1)


def microseconds(run: Callable[[], mx.array | None]) -> float:
    """Time one of many calls, in microseconds."""
    mx.eval([run() for _ in range(20)])
    start = time.perf_counter()
    mx.eval([run() for _ in range(CALLS)])
    return 1e6 * (time.perf_counter() - start) / CALLS


def main() -> None:
    """Compare, time, print; fail if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=[s for s in DECODERS if s != "toy"], default="small")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    if not kernels.on_cuda():
        sys.exit("no CUDA here: the kernels run nowhere else")
    if (compile_error := kernels.compile_error()) is not None:
        sys.exit(compile_error)
    decoder = DECODERS[options.shape]
    wrong = 0
    print("| rows | kernel | difference | µs | portable, µs |\n|--:|---|--:|--:|--:|")
    for rows in options.rows:
        shape = decoder["hidden_size"], decoder["num_attention_heads"], rows
        compile_all(cases(*shape, mx.float16))
        for case in cases(*shape, mx.float16):
            apart = case.difference()
            if apart == -1:
                continue
            fused, portable = microseconds(case.fused), microseconds(case.portable)
            verdict = "" if apart <= case.tolerance else " WRONG"
            wrong += bool(verdict)
            print(
                f"| {rows} | {case.name} | {apart:.1e}{verdict} | {fused:.1f} | {portable:.1f} |",
                flush=True,
            )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
