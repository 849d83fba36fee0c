"""Methods: MLX's own groups, chosen better."""

import mlx.core as mx
import pytest

from segue.checkpoints.config import QuantizationParams
from segue.errors import RequestError
from segue.quantization.methods import KINDS, METHODS, nearest, packed, search, weight_method


def weights(rows=24, columns=256, dtype=mx.float16, seed=0):
    """Normal weights, with a few far out."""
    key, other = mx.random.split(mx.random.key(seed))
    normal = mx.random.normal((rows, columns), key=key) * 0.02
    far = mx.random.uniform(shape=(rows, columns), key=other) > 0.99
    return mx.where(far, 4 * normal, normal).astype(dtype)


def error(weight, parts, params):
    weights, scales, biases = (parts[kind] for kind in KINDS)
    found = mx.dequantize(weights, scales, biases, params.group_size, params.bits)
    return mx.square(found.astype(mx.float32) - weight.astype(mx.float32)).mean().item()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_integers_are_packed_as_mlx_does(bits):
    codes = mx.random.randint(0, 1 << bits, (4, 128), key=mx.random.key(bits)).astype(mx.uint32)
    ones, zeros = mx.ones((4, 2)), mx.zeros((4, 2))
    assert (mx.dequantize(packed(codes, bits), ones, zeros, 64, bits) == codes).all().item()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_a_search_errs_less_than_the_nearest_value(bits, dtype):
    weight, params = weights(dtype=dtype), QuantizationParams(bits, 64)
    found, plain = search("", weight, params), nearest("", weight, params)
    for kind, part in plain.items():
        assert (found[kind].shape, found[kind].dtype) == (part.shape, part.dtype)
    assert error(weight, found, params) < 0.97 * error(weight, plain, params)


def test_a_search_leaves_groups_of_one_value_exact():
    weight, params = mx.full((2, 64), 0.25), QuantizationParams(4, 64)
    assert error(weight, search("", weight, params), params) < 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_quantized_independently(method):
    weight, params = weights(), QuantizationParams(4, 32)
    whole, part = (METHODS[method]("", each, params) for each in (weight, weight[5:7]))
    for kind in whole:
        assert (whole[kind][5:7] == part[kind]).all().item()


def test_a_method_that_looks_at_music_is_none_of_weights_alone():
    with pytest.raises(RequestError, match="gptq"):
        weight_method("gptq")
