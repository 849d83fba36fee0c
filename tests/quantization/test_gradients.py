"""Gradients written out are those that MLX derives from the engine's own model."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from segue.checkpoints.opening import open_checkpoint
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.weights import lm_sources
from segue.quantization.arithmetic import gelu
from segue.quantization.calibration import TextCodes
from segue.quantization.evaluation import Distributions, counted, divergence
from segue.quantization.gradients import divergence_and_gradients, gelu_and_slope
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows

CONTEXT = 3
TEXTS = ("", "piano slow", "drums", "")


def shaken(read):
    """The weights with noise: a variant that loses something."""
    random, known = np.random.default_rng(1), {}

    def weight(name):
        if name not in known:
            values = read(name)
            noise = random.standard_normal(values.shape).astype(np.float32)
            known[name] = values + np.float32(0.1 * values.std() + 0.01) * noise
        return known[name]

    return weight


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody"])
def test_they_are_those_that_mlx_derives(kind, toy, toy_stereo, tmp_path):
    path = {"mono": toy, "stereo": toy_stereo}.get(kind)
    path = path or write_checkpoint(tmp_path / "melody", config=MELODY_CONFIG)
    checkpoint = open_checkpoint(str(path))
    config, encoder, random = checkpoint.config, TextCodes(checkpoint), np.random.default_rng(0)
    lm = config.lm
    codes = [random.integers(0, lm.cardinality, (lm.num_codebooks, n)) for n in (24, 9, 17, 12)]
    windows = Windows.of(lm, codes, [encoder.of(text) for text in TEXTS])
    read = weights_of(checkpoint.lm)
    baseline, weight = Distributions.of(lm, read, windows), shaken(read)
    found = {}

    def gradient(name, values):
        found[name] = found.get(name, 0) + values

    loss = divergence_and_gradients(
        lm, weight, windows, baseline, range(4), gradient, context=CONTEXT
    )
    lost = divergence(lm, baseline, Distributions.of(lm, weight, windows), CONTEXT)
    assert loss == pytest.approx(lost.mean(), rel=1e-5)
    assert loss > 1e-3

    model = MLXEngine(open_checkpoint(str(path))).lm
    sources, loaded = lm_sources(lm), []
    for ours, theirs in sources.items():
        for part in ("weight", "bias"):
            if f"{theirs[0]}.{part}" in checkpoint.lm:
                values = np.concatenate([weight(f"{name}.{part}") for name in theirs])
                loaded.append((f"{ours}.{part}", mx.array(values)))
    model.load_weights(loaded)

    def lost_by(model):
        losses = []
        for n, tokens in enumerate(windows.tokens):
            encoded = windows.encoded[n]
            given = None if encoded is None else mx.array(encoded)[None]
            cross = prefix = None
            if lm.melody is not None:
                prefix = model.prefix(None, given).given
            elif given is not None:
                cross = model.project(given)
            before = 0 if prefix is None else prefix.shape[1]
            cache = model.empty_cache(1, before + len(tokens))
            hidden, _ = model(mx.array(tokens)[None], 0, cache, cross, prefix)
            logits = model.logits(hidden[:, before:])[0]
            for k, rows in enumerate(counted(lm, len(tokens), CONTEXT)):
                p = mx.array(baseline.log_softmax(n, k, rows))
                q = nn.log_softmax(logits[rows, k], axis=-1)
                losses.append((mx.exp(p) * (p - q)).sum(axis=-1).mean())
        return mx.stack(losses).mean()

    expected_loss, gradients = nn.value_and_grad(model, lost_by)(model)
    assert loss == pytest.approx(expected_loss.item(), rel=1e-4)
    expected = dict(tree_flatten(gradients))
    checked = 0
    for ours, theirs in sources.items():
        for part in ("weight", "bias"):
            if f"{theirs[0]}.{part}" in found:
                whole = np.concatenate([found.pop(f"{name}.{part}") for name in theirs])
                wanted = np.array(expected[f"{ours}.{part}"])
                np.testing.assert_allclose(whole, wanted, atol=2e-4 * np.abs(wanted).max())
                checked += 1
    assert not found
    assert checked == 2 + 1 + lm.num_layers * (8 if lm.melody else 14)


def test_the_slope_of_the_activation_is_the_one_between_its_values():
    x = np.linspace(-6, 6, 2001, dtype=np.float32)
    below, above = x - 1e-3, x + 1e-3
    y = x.copy()
    slope = gelu_and_slope(y)
    for each in (below, above):
        gelu(each)
    np.testing.assert_allclose(slope, (above - below) / 2e-3, atol=1e-3)
    gelu(x)
    np.testing.assert_array_equal(x, y)
