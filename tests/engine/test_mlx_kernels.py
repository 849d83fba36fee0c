"""The CUDA kernels compute what the portable way computes.

MLX has nothing that runs CUDA's source on a CPU: what the source computes, only a card shows, and
`docs/performance.md` says which did, and when.  All around it is tested without one, here and in
`test_mlx_kernel_runtime.py`: what is launched, with which constants, and the arithmetic of what is
folded and packed for it.
"""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from benchmarks.gpu.kernels import cases, compile_all
from segue.checkpoints.config import LMConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lm import LM, Layer
from segue.engine.mlx.sampling import Sampler
from segue.engine.mlx.step import Step

from .test_mlx import generated, prompt_of

ONLY_A_CARD = "needs CUDA: what the kernels compute, only a card shows"
cuda = pytest.mark.skipif(not kernels.available(), reason=ONLY_A_CARD)


@cuda
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_each_kernel_computes_what_the_portable_way_does(rows, dtype):
    several = list(cases(256, 4, rows, dtype))
    compile_all(several)
    apart = {case: case.difference() for case in several}
    assert [case.name for case in apart if apart[case] > case.tolerance] == []
    # Sixteen streams of a guided text are more than the kernel takes; nothing else is declined.
    declined = [case.name for case in apart if apart[case] == -1]
    assert all(name.startswith("layer") and name.endswith("guided") for name in declined)
    assert len(declined) == (3 if rows == 8 else 0)


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
    assert folded(takes=5) is None
    assert folded(on=["linear", "attend"]) is None
    with monkeypatch.context() as small:
        small.setattr(runtime, "gpu", lambda: runtime.GPU(132, 1 << 10, True))
        assert folded() is None
    nn.quantize(lm.layers[1], 32, 6, class_predicate=lambda path, _: path == "fc1")
    assert folded() is None
    assert Step(lm, Sampler(30, True), frozenset(kernels.NAMES)).folded(None, 1) is None


@pytest.mark.parametrize("bits", [0, 4])
def test_what_a_layer_has_lies_in_one_array_and_computes_the_same(bits):
    layer = Layer(LMConfig(256, 1, 4, 512, 4, 64))
    if bits:
        nn.quantize(layer, 64, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
    mx.eval(layer.parameters())
    inputs = mx.random.normal((1, 1, 256)), mx.zeros((1, 2, 4, 8, 64)), 0, mx.zeros(8)
    before = np.array(layer(*inputs, None)[0])
    mx.synchronize()
    held = mx.get_active_memory()
    packed = kernels.packed_layer(layer)
    assert kernels.packed_layer(layer) is packed
    assert mx.get_active_memory() < 1.01 * held
    np.testing.assert_array_equal(layer(*inputs, None)[0], before)
    assert all(start % 16 == 0 for _, _, start in packed.parts.values())
    assert ("fc2_scales" in packed.parts) == (bits > 0)
    for name, view in packed.views().items():
        module, _, key = name.rpartition("_")
        found = {"qkv": layer.self_attn.qkv_proj, "norm2": layer.final_layer_norm}.get(module)
        assert found is None or mx.array_equal(found[key], view)
