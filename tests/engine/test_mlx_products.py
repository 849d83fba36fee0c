"""Products of many rows on CUDA, where MLX would compile its own; what is computed is the same."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from segue.engine.mlx import activations, products
from segue.engine.mlx.products import MIN_ROWS, Linear, QuantizedLinear


@pytest.fixture
def on_cuda(monkeypatch):
    for module in (products, activations):
        monkeypatch.setattr(module, "on_cuda", lambda: True)


def quantized(bits, group_size, mode, bias=False):
    model = nn.Sequential(Linear(64, 24, bias=bias))
    model.set_dtype(mx.float32)
    nn.quantize(model, group_size, bits, mode=mode)
    return model.layers[0]


@pytest.mark.parametrize(
    ("bits", "group_size", "mode"),
    [*((bits, 32, "affine") for bits in (2, 3, 4, 5, 6, 8)), (4, 64, "affine"), (4, 32, "mxfp4")],
)
def test_many_rows_are_multiplied_with_the_weight_dequantized(
    bits, group_size, mode, on_cuda, monkeypatch
):
    layer = quantized(bits, group_size, mode, bias=True)
    assert isinstance(layer, QuantizedLinear)
    layer.bias = mx.random.normal((24,))
    x = mx.random.normal((2, MIN_ROWS // 2, 64))
    # Row by row, for which MLX compiles nothing.
    rows = [
        nn.QuantizedLinear.__call__(layer, row) for row in mx.split(x.reshape(-1, 64), MIN_ROWS)
    ]
    expected = np.array(mx.concatenate(rows)).reshape(2, MIN_ROWS // 2, 24)
    with monkeypatch.context() as patched:
        patched.setattr(mx, "quantized_matmul", lambda *_, **__: pytest.fail("compiles"))
        found = np.array(layer(x))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_few_rows_are_multiplied_with_the_weight_as_it_is(on_cuda, monkeypatch):
    layer = quantized(4, 32, "affine")
    x = mx.random.normal((MIN_ROWS - 1, 64))
    monkeypatch.setattr(mx, "dequantize", lambda *_, **__: pytest.fail("dequantized"))
    assert layer(x).shape == (MIN_ROWS - 1, 24)


def test_two_rows_are_many_where_a_row_is_one_group(on_cuda, monkeypatch):
    layer = quantized(4, 64, "affine")
    monkeypatch.setattr(mx, "quantized_matmul", lambda *_, **__: pytest.fail("compiles"))
    assert layer(mx.random.normal((2, 1, 64))).shape == (2, 1, 24)


def test_elsewhere_mlx_multiplies_as_it_does(monkeypatch):
    monkeypatch.setattr(products, "on_cuda", lambda: False)
    layer, asked = quantized(4, 32, "affine"), []
    monkeypatch.setattr(mx, "quantized_matmul", lambda x, *_, **__: asked.append(x.shape))
    layer(mx.random.normal((64, 64)))
    assert asked == [(64, 64)]


def test_what_is_not_fused_is_the_same_function(on_cuda):
    x = np.random.default_rng(0).normal(0, 3, 100).astype(np.float32)
    normal = (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2
    approximate = (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    for function, expected in (
        (activations.gelu, x * normal),
        (activations.gelu_approx, x * approximate),
        (activations.ELU(), np.where(x > 0, x, np.expm1(x))),
    ):
        np.testing.assert_allclose(function(mx.array(x)), expected, rtol=0, atol=1e-6)
