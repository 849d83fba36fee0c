"""Rounding: a matrix in integers loses less, the more is known of what it reads."""

import numpy as np
import pytest

from segue.quantization import device_rounding, rounding
from segue.quantization.grid_search import stored
from segue.quantization.rounding import DTYPES, Rounded, calibrated, search

FLOAT16 = DTYPES["float16"]


def inputs(rows, columns=192, seed=0):
    """Rows with a few directions that matter, and a few columns that are large."""
    random = np.random.default_rng(7)
    mixed = random.standard_normal((24, columns)) + 0.1 * random.standard_normal((24, columns))
    large = np.where(random.random(columns) > 0.95, 6.0, 1.0)
    drawn = np.random.default_rng(seed)
    noise = 0.3 * drawn.standard_normal((rows, columns))
    return ((drawn.standard_normal((rows, 24)) @ mixed + noise) * large).astype(np.float32)


def weights(rows=40, columns=192):
    return np.random.default_rng(1).standard_normal((columns, rows)).astype(np.float32)


def moments(x):
    return x.T @ x / np.float32(len(x))


def plain(weight, bits, size=64):
    """Each group over its whole range."""
    groups = weight.reshape(-1, size, weight.shape[1])
    low, high = groups.min(axis=1), groups.max(axis=1)
    scales = (high - low) / (2**bits - 1)
    codes = np.rint((groups - low[:, None]) / scales[:, None]).astype(np.uint8)
    return Rounded(codes.reshape(weight.shape), scales, low)


def lost(found, weight, x):
    """The mean square of what comes out wrong."""
    return float(np.square(x @ (found.values() - weight)).mean())


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_what_knows_the_inputs_loses_least_on_other_inputs(bits):
    weight, H, held_out = weights(), moments(inputs(4000)), inputs(500, seed=1)
    nearest = lost(plain(weight, bits), weight, held_out)
    searched = lost(search(weight, bits, 64, FLOAT16), weight, held_out)
    known = lost(calibrated(weight, H, bits, 64, FLOAT16), weight, held_out)
    assert searched < nearest
    assert known < 0.5 * searched


def test_sweeps_lose_less_than_one_pass():
    weight, x = weights(), inputs(4000)
    passed, swept = (calibrated(weight, moments(x), 3, 64, FLOAT16, n) for n in (0, 4))
    assert lost(swept, weight, x) < 0.9 * lost(passed, weight, x)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_a_device_of_mlx_loses_no_more_than_numpy(bits):
    weight, x = weights(), inputs(4000)
    on_cores, on_device = (
        lost(found.calibrated(weight, moments(x), bits, 64, FLOAT16), weight, x)
        for found in (rounding, device_rounding)
    )
    assert on_device == pytest.approx(on_cores, rel=0.02)


def test_the_factor_is_that_of_the_moments():
    """Over the edges of its blocks, with columns in any order."""
    H = moments(inputs(4000, columns=1300))
    order = np.random.default_rng(3).permutation(1300)
    U = np.triu(rounding.unit_factor(H, 0.5, order)).astype(np.float64)
    damped = H.astype(np.float64) + 0.5 * np.eye(1300)
    D = np.linalg.solve(U, np.linalg.solve(U, damped[np.ix_(order, order)]).T)
    assert np.abs(np.diag(U) - 1).max() < 1e-6
    off = D - np.diag(np.diag(D))
    assert np.abs(off).max() < 1e-3 * np.diag(D).max()


def test_independent_inputs_leave_nothing_to_make_up_for():
    weight, H = weights(), np.eye(192, dtype=np.float32)
    grid = search(weight, 4, 64, FLOAT16)
    found = calibrated(weight, H, 4, 64, FLOAT16, 0)
    off = found.codes != grid.codes
    assert off.mean() < 1e-3  # but for what lies between two integers


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_and_grids_are_what_is_stored(dtype):
    found = calibrated(weights(), moments(inputs(500)), 3, 32, DTYPES[dtype])
    assert found.codes.max() <= 7
    for grid in (found.scales, found.biases):
        assert (stored(grid, DTYPES[dtype]) == grid).all()
        assert grid.shape == (6, 40)


def test_one_matrix_has_one_result():
    first, second = (calibrated(weights(), moments(inputs(500)), 4, 64, FLOAT16) for _ in range(2))
    assert (first.codes == second.codes).all()
    assert (first.scales == second.scales).all()


def test_inputs_that_are_always_zero_do_no_harm():
    x = inputs(500)
    x[:, 10:90] = 0
    found = calibrated(weights(), moments(x), 4, 64, FLOAT16)
    assert np.isfinite(found.values()).all()
    assert lost(found, weights(), x) < lost(plain(weights(), 4), weights(), x)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_groups_of_one_value_stay_exact(value):
    weight = np.full((64, 3), value, np.float32)
    for found in (search(weight, 4, 64, FLOAT16), calibrated(weight, np.eye(64), 4, 64, FLOAT16)):
        assert (found.values() == weight).all()
        assert found.scales.all()  # OpenVINO divides by them
