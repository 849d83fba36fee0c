"""The CUDA kernels compute what the portable way computes.

What the source computes is tested on a CPU in `test_mlx_kernels_on_cpu.py`, and here on a card,
whose compiler and memory are its own; `docs/performance.md` says what ran there, and when.  All
around it is tested without one, here and in `test_mlx_kernel_runtime.py`: what is launched, with
which constants, and the arithmetic of what is folded and packed for it.
"""

import gc
import time
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from benchmarks.gpu.kernels import cases, compile_all
from segue.checkpoints.config import LMConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.kernels import layer_shape, runtime
from segue.engine.mlx.lm import LM, Layer
from segue.engine.mlx.sampling import Sampler
from segue.engine.mlx.step import Step
from segue.engine.mlx.turns import synchronize

from .test_mlx import generated, prompt_of
from .test_mlx_kernels_on_cpu import gelu_apart, with_and_without_alike, write_some_rows

ONLY_A_CARD = "needs CUDA: what the kernels compute, only a card shows"
cuda = pytest.mark.skipif(not kernels.available(), reason=ONLY_A_CARD)


@cuda
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8, 12, 40, 64])
def test_each_kernel_computes_what_the_portable_way_does(rows, dtype):
    several = list(cases(256, 4, rows, dtype))
    compile_all(several)
    apart = {case: case.difference() for case in several}
    assert [case.name for case in apart if apart[case] > case.tolerance] == []
    most = 8 if dtype == mx.float32 else 64
    for case, found in apart.items():
        streams = 2 * rows if case.name.endswith("guided") else rows
        too_many = case.name.startswith("layer") and streams > most
        too_many |= case.name.startswith("linear") and rows > 8
        assert (found == -1) == too_many, case.name


@cuda
@pytest.mark.parametrize(("rows", "takes"), [(64, 64), (34, 34), (40, 20)])
def test_what_is_alike_in_all_takes_is_read_of_the_first(rows, takes):
    np.testing.assert_array_equal(*with_and_without_alike(rows, takes))


@cuda
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_rows_of_a_cache_are_written_where_they_belong(dtype):
    write_some_rows(dtype)
    assert gelu_apart(dtype) < {mx.float32: 1e-6, mx.float16: 1e-3, mx.bfloat16: 1e-2}[dtype]


@pytest.mark.slow
@cuda
@pytest.mark.parametrize("name", [*kernels.NAMES, "all"])
def test_a_step_of_kernels_samples_what_the_portable_one_does(toy, name):
    portable, fused = (
        MLXEngine(open_checkpoint(str(toy)), cast_dtype="float32", execution=execution)
        for execution in (Execution(), Execution(True, kernels.wanted(name)))
    )
    sequence = prompt_of(portable, 20, 300)
    for sampling, text in ((Sampling(top_k=30), ""), (Sampling(30, 0.9, 3.0), "drums")):
        found = [
            generated(e, sequence, sampling, (1, 2), e.condition(text) if text else None)
            for e in (portable, fused)
        ]
        assert (found[0] == found[1]).mean() > 0.9
        np.testing.assert_array_equal(found[0][..., :40], found[1][..., :40])


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("tokens", [1, 5, 32])
def test_a_text_folded_into_the_weights_is_cross_attention(tokens, bits):
    mx.random.seed(3)
    layer = Layer(LMConfig(64, 1, 2, 128, 4, 64))
    norm = layer.encoder_attn_layer_norm
    norm.weight, norm.bias = mx.random.normal((64,)), mx.random.normal((64,))
    if bits:
        nn.quantize(layer, 32, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
    y, before = mx.random.normal((3, 64)), 3 + 2 * mx.random.normal((3, 64))
    k, v = layer.encoder_attn.keys_and_values(mx.random.normal((1, tokens, 64)))
    x = before + layer.self_attn.out_proj(y)
    expected = layer.encoder_attn(norm(x)[None], k, v)[0]

    weight, shift, values = layer.folded(k, v)
    scores = mx.concatenate([y, before], axis=1) @ weight.T
    scores = scores * mx.rsqrt(x.var(axis=1, keepdims=True) + 1e-5) + shift
    found = mx.softmax(scores.reshape(3, 2, -1), axis=-1).reshape(3, -1) @ values.T
    assert values.shape[1] == len(weight) == 2 * -(-tokens // 8) * 8
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_text_is_folded_where_the_kernel_takes_it(monkeypatch):
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 99 << 10, True))
    lm = LM(LMConfig(64, 2, 2, 128, 4, 64), 32)

    def folded(tokens=5, takes=1, guided=True, on=kernels.NAMES):
        step = Step(lm, Sampler(30, guided), frozenset(on))
        return step.folded(lm.project(mx.random.normal((1, tokens, 32))), takes)

    whole = folded()
    assert len(whole) == 2
    assert [kernels.tokens_of(text, lm.layers[0]) for text in whole] == [8, 8]
    assert folded(32, 4)
    assert folded(32, 8, guided=False)
    assert folded(tokens=33) is None
    assert folded(takes=5) is None  # in float32
    assert folded(on=["linear", "attend"]) is None
    with monkeypatch.context() as small:
        small.setattr(runtime, "gpu", lambda: runtime.GPU(132, 1 << 10, True))
        assert folded() is None
    nn.quantize(lm.layers[1], 32, 6, class_predicate=lambda path, _: path == "fc1")
    assert folded() is None
    assert Step(lm, Sampler(30, True), frozenset(kernels.NAMES)).folded(None, 1) is None


def test_16_bits_take_64_rows_where_a_block_may_have_their_memory(monkeypatch):
    layer = Layer(LMConfig(2048, 1, 32, 8192, 4, 64))
    fits = []
    for shared in (99 << 10, 227 << 10):
        monkeypatch.setattr(runtime, "gpu", lambda n=shared: runtime.GPU(132, n, True))
        for rows in (1, 64, 65):
            shape = layer_shape.Shape.of(layer, rows, 0, mx.float16)
            fits.append(kernels.layer_fits(layer, rows, mx.float16))
            if fits[-1]:
                assert 0 < shape.rows_at_once <= layer_shape.ROWS_AT_ONCE
                assert shape.launched_bytes <= shared
            assert not kernels.layer_fits(layer, 9, mx.float32)
    assert fits == 2 * [True, True, False]


@pytest.mark.parametrize(("rows", "splits"), [(1, 4), (4, 1), (5, 3), (8, 1), (16, 1), (64, 1)])
def test_attention_is_shared_out_so_that_few_blocks_wait(rows, splits, monkeypatch):
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 227 << 10, True))
    layer = Layer(LMConfig(2048, 1, 32, 8192, 4, 64))
    assert layer_shape.Shape.of(layer, rows, 0, mx.float16).splits == splits


@pytest.mark.parametrize("bits", [4, 8])
def test_inputs_are_placed_as_integers_of_a_word_are_paired(bits):
    weight = mx.arange(32).reshape(2, 16)
    found = np.array(layer_shape.placed(weight, bits))[0, :8].tolist()
    assert found == {4: [0, 4, 1, 5, 2, 6, 3, 7], 8: [0, 2, 1, 3, 4, 6, 5, 7]}[bits]
    assert mx.array_equal(layer_shape.placed(weight, 0), weight)


def settled_memory():
    """The memory that is held when nothing is under way: CUDA's is given back by a thread."""
    gc.collect()
    mx.synchronize()
    synchronize()
    lowest = mx.get_active_memory()
    for _ in range(20):
        time.sleep(0.01)
        lowest = min(lowest, mx.get_active_memory())
    return lowest


@pytest.mark.parametrize("bits", [0, 4])
def test_what_a_layer_has_lies_in_one_array_and_computes_the_same(bits):
    layer = Layer(LMConfig(256, 1, 4, 512, 4, 64))
    if bits:
        nn.quantize(layer, 64, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
    mx.eval(layer.parameters())
    # What else the process holds is no matter; what nobody needs is given back a while later.
    leaves: Any = tree_flatten(layer.parameters())
    others = settled_memory() - sum(array.nbytes for _, array in leaves)
    del leaves  # which would hold what is to be given back
    inputs = mx.random.normal((1, 1, 256)), mx.zeros((1, 2, 4, 8, 64)), 0, mx.zeros(8)
    before = np.array(layer(*inputs, None)[0])
    held = settled_memory() - others
    packed = kernels.packed_layer(layer)
    assert kernels.packed_layer(layer) is packed
    # Scales and biases of four bits, 65,536 bytes of these weights, lie there once more.
    assert settled_memory() - others < held + (65_536 if bits else 0) + 16_384
    np.testing.assert_array_equal(layer(*inputs, None)[0], before)
    assert all(start % 16 == 0 for _, _, start in packed.parts.values())
    assert ("fc2_scales" in packed.parts) == (bits > 0)
    for name, view in packed.views().items():
        module, _, key = name.rpartition("_")
        found = {"qkv": layer.self_attn.qkv_proj, "norm2": layer.final_layer_norm}.get(module)
        if key == "marks":
            continue
        assert found is None or mx.array_equal(found[key], view)
