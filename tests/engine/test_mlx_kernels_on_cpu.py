"""What the CUDA kernels compute, run on a CPU: see `cuda_on_cpu`.

Shapes are small and multiprocessors few, for each thread of a GPU is one here that waits its turn.
"""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from benchmarks.gpu.kernels import cases
from segue.checkpoints.config import LMConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.decoding import cross_of_batch
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lm import Layer
from segue.engine.mlx.preparing import joins_of
from segue.engine.mlx.prompt import filled_up, prompt_forward

from .batches import Asked, run
from .cuda_on_cpu import AVAILABLE, CudaOnCPU
from .test_mlx import generated, prompt_of

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs g++ on x86-64")

F16, BF16, F32 = mx.float16, mx.bfloat16, mx.float32
TOLERANCE = {F32: 1e-5, F16: 3e-3, BF16: 2e-2}
"""Of the largest value, beside float32 that nothing was rounded in."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return CudaOnCPU(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def on_cpu(compiled, monkeypatch):
    """Kernels run here, as on a GPU of five multiprocessors."""
    compiled.launched.clear()
    monkeypatch.setattr(runtime, "run", compiled.run)
    monkeypatch.setattr(runtime, "start_compiling", lambda found: [])
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(5, 227 << 10, True))
    return compiled


def layer_of(dim, heads, bits, group, dtype):
    """A layer, and the same one in float32 with nothing quantized."""
    mx.random.seed(1)
    layer, exact = (Layer(LMConfig(dim, 1, heads, 4 * dim, 4, 64)) for _ in range(2))
    norms = "self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"
    for name in norms:
        layer[name].weight, layer[name].bias = mx.random.normal((2, dim))
    layer.set_dtype(dtype)
    exact.update(layer.parameters())
    exact.set_dtype(F32)
    if bits:
        nn.quantize(layer, group, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
        for one, other in (
            (layer.self_attn, exact.self_attn),
            (layer.encoder_attn, exact.encoder_attn),
            (layer, exact),
        ):
            for name, product in one.items():
                if isinstance(product, nn.QuantizedLinear):
                    weight = product.weight, product.scales, product.biases, group, bits
                    other[name].weight = mx.dequantize(*weight).astype(F32)
    return layer, exact


def difference(
    dim=256, heads=4, bits=0, group=64, dtype=F16, rows=1, layers=1, tokens=0, own=False
):
    """How far the kernel's hidden states are from exact ones, and where its caches end."""
    layer, exact = layer_of(dim, heads, bits, group, dtype)
    takes, length = (-(-rows // 2), 40) if tokens else (rows, 40)
    x = mx.random.normal((rows, dim)).astype(dtype)
    at = mx.array([20 + 3 * (b % 5) if own else 30 for b in range(rows if own else 1)])
    caches = [mx.random.normal((rows, 2, heads, length, dim // heads)).astype(dtype) for _ in "ab"]
    caches = caches[:layers]
    before = [np.array(kv.astype(F32)) for kv in caches]
    kv, texts = None, None
    if tokens:
        k, v = mx.random.normal((2, 1, heads, tokens, dim // heads)).astype(dtype)
        kv = k, v
        texts = [kernels.packed_text(layer, kv)] * layers
    assert kernels.layer_fits(layer, rows, dtype, tokens)
    following = kernels.packed_layer(layer).data
    y = kernels.layers_forward(x, [layer] * layers, caches, at, texts, takes, following)
    found, expected = np.array(y.astype(F32)), []
    for b in range(rows):
        z, place = x[b : b + 1, None].astype(F32), int(at[b if own else 0])
        text = tuple(a.astype(F32) for a in kv) if tokens and b < takes else None
        for n, cache in enumerate(before):
            past = mx.array(cache[b : b + 1])
            z, now = exact(z, past, place, mx.arange(length)[None] <= place, text)
            written = np.array(caches[n][b].astype(F32))
            np.testing.assert_allclose(written, now[0], rtol=0, atol=30 * TOLERANCE[dtype])
            untouched = np.arange(length) != place
            np.testing.assert_array_equal(written[:, :, untouched], cache[b][:, :, untouched])
        expected.append(np.array(z[0, 0]))
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 1},
        {"rows": 8, "own": True, "layers": 2},
        {"rows": 12, "layers": 2},
        {"rows": 33},
        {"rows": 64, "own": True},
        {"rows": 3, "tokens": 7},
        {"rows": 20, "tokens": 7},
        {"rows": 1, "bits": 4, "layers": 2},
        {"rows": 17, "bits": 4, "own": True},
        {"rows": 12, "bits": 4, "tokens": 11},
        {"rows": 2, "bits": 8},
        {"rows": 34, "bits": 8},
        {"rows": 3, "bits": 4, "group": 32},
        {"rows": 9, "bits": 4, "group": 128, "dim": 384, "heads": 6},
        {"rows": 20, "dtype": BF16},
        {"rows": 5, "bits": 4, "dtype": BF16},
        {"rows": 9, "bits": 8, "dtype": BF16},
        {"rows": 2, "dtype": F32},
        {"rows": 8, "bits": 4, "dtype": F32, "tokens": 7},
    ],
    ids=str,
)
def test_layers_of_any_rows_are_what_float32_makes_of_them(on_cpu, options):
    assert difference(**options) < TOLERANCE[options.get("dtype", F16)]
    assert on_cpu.launched == ["layer"]


def test_a_row_is_the_same_whatever_is_beside_it(on_cpu):
    layer, _ = layer_of(256, 4, 4, 64, F16)
    x = mx.random.normal((16, 256)).astype(F16)
    cache, at = mx.random.normal((16, 2, 4, 40, 64)).astype(F16), mx.array([30])
    following = kernels.packed_layer(layer).data

    def run(rows):
        kv = mx.contiguous(cache[:rows] + 0)
        mx.eval(kv)
        return kernels.layers_forward(x[:rows], [layer], [kv], at, None, rows, following)

    alone, beside, many = run(1), run(5), run(16)
    for other in (beside, many):
        np.testing.assert_allclose(other[0], alone[0], rtol=0, atol=4e-3 * np.abs(alone[0]).max())
    np.testing.assert_allclose(many[:5], beside, rtol=0, atol=4e-3 * np.abs(beside).max())


def with_and_without_alike(rows, takes):
    """Hidden states of rows whose first positions are alike: by their own caches, by the first one.

    With guidance the rows behind the takes are alike in themselves.
    """
    layer, _ = layer_of(256, 4, 0, 64, F16)
    x, at, same = mx.random.normal((rows, 256)).astype(F16), mx.array([30]), 21
    of_stream = mx.random.normal((rows // takes, 2, 4, 40, 64)).astype(F16)
    own = mx.random.normal((rows, 2, 4, 40, 64)).astype(F16)
    first = mx.arange(40)[:, None] < same
    whole = mx.where(first, mx.repeat(of_stream, takes, axis=0), own)
    nobodys = (mx.arange(rows) % takes > 0)[:, None, None, None, None] & first
    spoiled = mx.where(nobodys, mx.nan, whole)
    following, found = kernels.packed_layer(layer).data, []
    for kv, alike in ((whole, None), (spoiled, mx.full((4,), same, mx.int32))):
        kv = mx.contiguous(kv.astype(F16))
        mx.eval(kv)
        y = kernels.layers_forward(x, [layer], [kv], at, None, takes, following, alike=alike)
        found.append(np.array(y))
    assert np.isfinite(found[1]).all()
    return found


@pytest.mark.parametrize(("rows", "takes"), [(9, 9), (6, 3)])
def test_what_is_alike_in_all_takes_is_read_of_the_first(on_cpu, rows, takes):
    np.testing.assert_array_equal(*with_and_without_alike(rows, takes))


def test_the_other_kernels_compute_what_the_portable_way_does(on_cpu):
    left_out = "layer", "linear 8", "linear 4", "linear 16 bits, norm, heads", "lookup, 4"
    some = [case for case in cases(64, 1, 3, F16) if not case.name.startswith(left_out)]
    apart = {case.name: (case.difference(), case.tolerance) for case in some}
    assert [name for name, (found, most) in apart.items() if not 0 <= found <= most] == []


@pytest.mark.parametrize("text", ["", "drums"])
def test_a_toy_model_plays_the_same_in_three_launches_a_step(on_cpu, toy, text):
    on = frozenset(kernels.NAMES)
    portable, fused = (
        MLXEngine(open_checkpoint(str(toy)), execution=Execution(False, which))
        for which in (frozenset(), on)
    )
    sequence = prompt_of(portable, 6, 9)
    sampling = Sampling(30, 0.9, 3.0 if text else None)
    found = [
        generated(e, sequence, sampling, (1, 2), e.condition(text) if text else None)
        for e in (portable, fused)
    ]
    np.testing.assert_array_equal(*found)
    # What lies before is prefill, and the step that is run to find out what it launches.
    assert on_cpu.launched[-12:] == ["embed", "layer", "sample"] * 4


def write_some_rows(dtype):
    """Rows of all layers' caches are written where they belong, and nowhere else."""
    layers, heads, dim = 2, 3, 16
    caches = [mx.random.normal((5, 2, heads, 7, dim)).astype(dtype) for _ in range(layers)]
    expected = [np.array(cache.astype(F32)) for cache in caches]
    for positions, filled in ((4, 4), (7, 6), (9, 9)):
        products = [
            mx.random.normal((2, positions, 3 * heads * dim)).astype(dtype) for _ in range(layers)
        ]
        mx.eval(kernels.write_rows(caches, products, [3, 0, 4], [0, 1, 1], filled))
        for cache, product, values in zip(caches, products, expected, strict=True):
            kv = np.array(product.astype(F32)).reshape(2, positions, 3, heads, dim)
            kv = kv[[0, 1, 1], :, 1:].transpose(0, 2, 3, 1, 4)[:, :, :, : min(filled, 7)]
            values[[3, 0, 4]] = 0
            values[[3, 0, 4], :, :, : kv.shape[3]] = kv
            np.testing.assert_array_equal(np.array(cache.astype(F32)), values)


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_rows_of_a_cache_are_written_where_they_belong(on_cpu, dtype):
    write_some_rows(dtype)


def test_requests_that_join_have_with_kernels_what_they_have_alone(on_cpu, toy):
    engine = MLXEngine(
        open_checkpoint(str(toy)), execution=Execution(False, frozenset(kernels.NAMES))
    )
    asked = [Asked(4 + n, 8 + n, (n,), Sampling(20)) for n in range(2)]
    alone = {each: each.alone(engine) for each in asked}
    found = run(engine, engine.batch(8), list(zip((0, 1), asked, strict=True)))
    assert on_cpu.launched.count("write_rows") == len(asked)  # all layers at once
    # What joining launches besides is known before, and compiled while nobody waits.
    assert {kernel.written()[0] for kernel in joins_of(engine.lm)} <= on_cpu.compiled
    for each, columns in found.items():
        np.testing.assert_array_equal(columns, alone[each])


def gelu_apart(dtype):
    """How far the kernel is from MLX's own operations, of the largest value."""
    x = (3 * mx.random.normal((2, 5, 24))).astype(dtype)
    own = x * (1 + mx.erf(x / math.sqrt(2))) / 2
    found, expected = (np.array(y.astype(F32)) for y in (kernels.gelu(x), own))
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_gelu_is_what_its_operations_are(on_cpu, dtype):
    assert gelu_apart(dtype) < {F32: 1e-6, F16: 1e-3, BF16: 1e-2}[dtype]


@pytest.mark.parametrize("guided", [False, True])
def test_a_prompt_for_a_batch_leaves_what_any_prefill_leaves(on_cpu, toy, guided):
    """Filled up or not, its last hidden states, keys and values are the same up to rounding."""
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution())
    lm = engine.lm
    cross = lm.project(mx.random.normal((1, 3, lm.enc_to_dec_proj.weight.shape[1])))
    random = np.random.default_rng(0)
    tokens = random.integers(0, 64, (1, 21, 4)).astype(np.int32)
    tokens = np.concatenate([tokens, tokens]) if guided else tokens
    texts = cross_of_batch(cross, 1, guided)
    hidden, cache = lm(mx.array(tokens), 0, lm.empty_cache(len(tokens), 21), texts)
    longer = mx.array(filled_up(tokens, lm.config.cardinality, 300))
    assert longer.shape[1] == 64
    last, products = prompt_forward(lm, longer, 20, texts, None, lambda table, rows: table(rows))
    np.testing.assert_allclose(last[:, 0], hidden[:, 20], rtol=0, atol=1e-5)
    written = lm.empty_cache(len(tokens), 30)
    mx.eval(kernels.write_rows(written, products, range(len(tokens)), range(len(tokens)), 21))
    for ours, theirs in zip(written, cache, strict=True):
        np.testing.assert_allclose(ours[..., :21, :], theirs[..., :21, :], rtol=0, atol=1e-5)
        assert not np.array(ours[..., 21:, :]).any()


def test_takes_of_a_request_alone_in_a_batch_have_memory_of_their_own(on_cpu, toy):
    """They share a start, and their whole length fits into the cache that it was run in."""
    engine = MLXEngine(
        open_checkpoint(str(toy)), execution=Execution(False, frozenset(kernels.NAMES))
    )
    asked = Asked(3, 6, (7, 8, 9), Sampling(20))
    (found,) = run(engine, engine.batch(1), [(0, asked)]).values()
    np.testing.assert_array_equal(found, asked.alone(engine))
