"""The search for grids: on cores and on a GPU alike, and never worse than the whole range."""

import mlx.core as mx
import numpy as np
import pytest

from segue.quantization import grid_search
from segue.quantization.methods import packed, packed_words
from segue.quantization.rounding import DTYPES


def weights(rows=40, columns=256, seed=0):
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, columns)) * np.exp(random.standard_normal((rows, 1)))
    return (0.02 * values).astype(np.float16)


def lost(weight, codes, scales, biases, importance=1.0):
    size = weight.shape[1] // scales.shape[1]
    scales, biases = (np.repeat(x.astype(np.float64), size, axis=1) for x in (scales, biases))
    return (np.square(codes * scales + biases - weight) * importance).sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_device_of_mlx_finds_grids_as_good_as_numpy(bits, size):
    weight = weights()
    found = grid_search.search(weight, bits, size, DTYPES["float16"])
    codes, scales, biases = (
        np.array(each) for each in grid_search.search_on_device(mx.array(weight), bits, size)
    )
    assert scales.dtype == biases.dtype == np.float16
    expected = lost(weight, found.codes, found.scales, found.biases)
    assert lost(weight, codes, scales, biases) == pytest.approx(expected, rel=0.01)
    if bits < 8:  # where errors of two grids differ by more than float32's sums
        assert (codes == found.codes).mean() > 0.98


@pytest.mark.parametrize("bits", [3, 4])
def test_what_matters_is_kept_closer(bits):
    weight = weights()
    importance = np.where(np.arange(256) % 8 == 0, 50.0, 1.0)
    plain = grid_search.search(weight, bits, 64, DTYPES["float16"])
    weighted = grid_search.search(weight, bits, 64, DTYPES["float16"], importance)
    parts = grid_search.search_on_device(mx.array(weight), bits, 64, mx.array(importance))
    codes, scales, biases = (np.array(part) for part in parts)
    on_device = lost(weight, codes, scales, biases, importance)
    kept, before = (
        lost(weight, x.codes, x.scales, x.biases, importance) for x in (weighted, plain)
    )
    assert kept < 0.9 * before
    assert on_device == pytest.approx(kept, rel=0.01)


def test_blocks_of_rows_change_nothing(monkeypatch):
    weight = weights()
    whole = grid_search.search(weight, 4, 64, DTYPES["float16"])
    monkeypatch.setattr(grid_search, "BLOCK", 1)
    parts = grid_search.search(weight, 4, 64, DTYPES["float16"])
    for name in ("codes", "scales", "biases"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_device_s_blocks_of_rows_change_nothing(monkeypatch):
    weight = mx.array(weights())
    whole = grid_search.search_on_device(weight, 4, 64)
    monkeypatch.setattr(grid_search, "GPU_BLOCK", 1024)
    for one, other in zip(whole, grid_search.search_on_device(weight, 4, 64), strict=True):
        assert (one == other).all().item()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_integers_are_packed_alike_by_numpy_and_mlx(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (5, 128)).astype(np.uint8)
    expected = np.array(packed(mx.array(codes).astype(mx.uint32), bits))
    np.testing.assert_array_equal(packed_words(codes, bits), expected)
