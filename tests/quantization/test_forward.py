"""The forward by layers is the engines' own, to rounding."""

import numpy as np
import pytest

from segue import load
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.pattern import delay
from segue.quantization.arithmetic import gelu
from segue.quantization.calibration import TextCodes
from segue.quantization.forward import Forward
from segue.quantization.weights import site_of, weights_of
from segue.quantization.windows import Windows


def windows_of(checkpoint, lengths=(24, 9, 17), texts=("", "piano slow", "drums")):
    random, lm = np.random.default_rng(0), checkpoint.config.lm
    codes = [random.integers(0, 64, (lm.num_codebooks, n)).astype(np.int32) for n in lengths]
    encoder = TextCodes(checkpoint)
    return codes, Windows.of(lm, codes, [encoder.of(text) for text in texts]), texts


def check_against_engine(path, engine, recipe=None):
    checkpoint = open_checkpoint(str(path))
    codes, windows, texts = windows_of(checkpoint)
    view = quantized(checkpoint, recipe)
    forward = Forward(checkpoint.config.lm, weights_of(view.lm, view.config.quantization))
    found, lm = forward.logits(windows), checkpoint.config.lm
    loaded, start = load(str(path), engine=engine, recipe=recipe).engine, 0
    for each, text in zip(codes, texts, strict=True):
        sequence = delay(each, lm.delays, lm.special_token)
        expected = loaded.logits(sequence, loaded.condition(text) if text else None)
        part = found[start : start + sequence.shape[1]]
        np.testing.assert_allclose(part, expected, atol=2e-4 * np.abs(expected).max())
        start += sequence.shape[1]
    assert start == len(found)


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_logits_are_the_engines(toy, engine):
    check_against_engine(toy, engine)


def test_logits_of_stereo_models_are_the_engines(toy_stereo):
    check_against_engine(toy_stereo, "mlx")


def test_logits_of_melody_models_are_the_engines(tmp_path):
    check_against_engine(write_checkpoint(tmp_path / "melody", config=MELODY_CONFIG), "mlx")


def test_logits_of_quantized_models_are_the_engines(toy):
    check_against_engine(toy, "mlx", Recipe(bits=4, group_size=32))


def test_the_rest_can_be_run_from_any_layer(toy):
    checkpoint = open_checkpoint(str(toy))
    _, windows, _ = windows_of(checkpoint)
    forward = Forward(checkpoint.config.lm, weights_of(checkpoint.lm))
    between = forward.layer(0, forward.start(windows))
    rest = forward.last(forward.through(between, first=1)) @ forward.head().T
    np.testing.assert_array_equal(rest.reshape(len(rest), 4, -1), forward.logits(windows))


def test_every_product_of_a_layer_is_seen_with_its_input(toy):
    checkpoint, seen = open_checkpoint(str(toy)), {}
    _, windows, _ = windows_of(checkpoint)
    forward = Forward(checkpoint.config.lm, weights_of(checkpoint.lm))

    def capture(site, rows):
        seen[site] = seen.get(site, 0) + len(rows)
        module = f"{site}.0" if site == "decoder.lm_heads" else site
        assert rows.shape[1] == checkpoint.lm[f"{module}.weight"].shape[1]

    forward.logits(windows, capture)
    covered = {name.removesuffix(".weight") for name in checkpoint.lm if name.endswith("weight")}
    assert set(seen) == {site_of(m) for m in covered if Recipe().covers(m)}
    columns = sum(len(tokens) for tokens in windows.tokens)
    with_text = sum(len(tokens) for tokens in windows.tokens[1:])
    assert seen["decoder.model.decoder.layers.1.fc2"] == columns
    assert seen["decoder.model.decoder.layers.1.encoder_attn.q_proj"] == with_text


def test_windows_do_not_see_each_other(toy):
    checkpoint = open_checkpoint(str(toy))
    _, windows, _ = windows_of(checkpoint)
    forward = Forward(checkpoint.config.lm, weights_of(checkpoint.lm))
    alone = forward.logits(windows.some([1]))
    start = len(windows.tokens[0])
    together = forward.logits(windows)[start : start + len(alone)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_gelu_is_exact_to_rounding():
    from math import erf

    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    expected = [v * 0.5 * (1 + erf(v / 2**0.5)) for v in x.astype(float)]
    found = x.copy()
    gelu(found)
    np.testing.assert_allclose(found, expected, atol=5e-7)
