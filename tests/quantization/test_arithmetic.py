"""Arithmetic: MLX computes what numpy does, to rounding, wherever hidden states lie."""

import numpy as np
import pytest

from segue.checkpoints.opening import open_checkpoint
from segue.quantization import windows as windows_module
from segue.quantization.arithmetic import MLXArithmetic, NumpyArithmetic, default_arithmetic
from segue.quantization.calibration import TextCodes
from segue.quantization.forward import Forward
from segue.quantization.moments import Moments
from segue.quantization.sensitivity import Measurements
from segue.quantization.units import units_of
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows

TOLERANCE = 1e-4
"""Of the largest value: what the order of sums may change in float32."""


@pytest.fixture
def model(toy):
    """A checkpoint, and windows of different lengths, two of them with words."""
    checkpoint, random = open_checkpoint(str(toy)), np.random.default_rng(0)
    lm, texts = checkpoint.config.lm, TextCodes(checkpoint)
    codes = [random.integers(0, 64, (4, n)).astype(np.int32) for n in (24, 9, 17)]
    encoded = [texts.of(text) for text in ("", "piano slow", "drums")]
    return checkpoint, Windows.of(lm, codes, encoded)


def run(model, arithmetic):
    """Logits, and the moments of one product of each kind."""
    checkpoint, windows = model
    lm, names = checkpoint.config.lm, ("self_attn.out_proj", "encoder_attn.k_proj", "fc2")
    sites = frozenset(f"decoder.model.decoder.layers.1.{name}" for name in names)
    moments = Moments(sites, arithmetic)
    forward = Forward(lm, weights_of(checkpoint.lm), arithmetic)
    logits = forward.logits(windows, moments)
    return [logits, *(moments.of(site, 0) for site in sorted(sites))]


def test_mlx_computes_what_numpy_does(model):
    for found, expected in zip(
        run(model, MLXArithmetic()), run(model, NumpyArithmetic()), strict=True
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())


def test_one_arithmetic_has_one_result(model):
    for arithmetic in (MLXArithmetic(), NumpyArithmetic()):
        for first, second in zip(run(model, arithmetic), run(model, arithmetic), strict=True):
            np.testing.assert_array_equal(first, second)


def test_it_is_numpy_where_mlx_has_no_gpu(monkeypatch):
    import mlx.core as mx

    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    assert default_arithmetic().name == ("mlx" if on_gpu else "numpy")


def test_hidden_states_in_a_file_are_those_in_memory(model, monkeypatch, tmp_path):
    in_memory = run(model, NumpyArithmetic())
    monkeypatch.setattr(windows_module, "MAX_BYTES", 0)
    for found, expected in zip(run(model, NumpyArithmetic()), in_memory, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_windows_pass_in_chunks_as_they_do_together(model, monkeypatch):
    together = run(model, NumpyArithmetic())
    monkeypatch.setattr(windows_module, "CHUNK_ROWS", 20)
    for found, expected in zip(run(model, NumpyArithmetic()), together, strict=True):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())


def test_a_layer_in_place_is_the_one_beside(model):
    checkpoint, windows = model
    forward = Forward(checkpoint.config.lm, weights_of(checkpoint.lm), NumpyArithmetic())
    before = forward.start(windows)
    kept = before.x.copy()
    after = forward.layer(0, before)
    np.testing.assert_array_equal(before.x, kept)
    assert forward.layer(0, before, in_place=True) is before
    np.testing.assert_array_equal(before.x, after.x)


def test_sensitivities_are_those_of_numpy(model, monkeypatch):
    checkpoint, windows = model
    lm, units = checkpoint.config.lm, units_of(checkpoint.config.lm)
    plain = Measurements(lm, weights_of(checkpoint.lm), windows).sensitivities(units)
    monkeypatch.setattr("segue.quantization.forward.default_arithmetic", MLXArithmetic)
    found = Measurements(lm, weights_of(checkpoint.lm), windows).sensitivities(units)
    for name, loss in plain.items():
        assert found[name] == pytest.approx(loss, rel=0.01, abs=1e-6)
