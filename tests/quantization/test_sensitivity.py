"""Sensitivities by passes that begin at a unit's layer, against whole models on an engine."""

import numpy as np
import pytest

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.plan import PlanShape
from segue.checkpoints.quantize import quantized
from segue.errors import RequestError
from segue.lab.quality.divergence import compare
from segue.lab.quality.teacher_forced import counted_logits
from segue.quantization.calibration import TextCodes
from segue.quantization.losses import MEASURED, Options, Problem
from segue.quantization.planning import recipe_of
from segue.quantization.sensitivity import Measurements, kept
from segue.quantization.sensitivity_cache import SensitivityCache, weights_digest
from segue.quantization.units import units_of
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows

TEXT = "slow piano"


@pytest.fixture(scope="module")
def checkpoint(toy):
    return open_checkpoint(str(toy))


@pytest.fixture(scope="module")
def codes(checkpoint):
    lm = checkpoint.config.lm
    rng = np.random.default_rng(0)
    return [rng.integers(0, lm.cardinality, (lm.num_codebooks, frames)) for frames in (60, 40)]


def measured(checkpoint, codes, texts=(None, None)):
    lm = checkpoint.config.lm
    windows = Windows.of(lm, codes, texts)
    return Measurements(lm, kept(weights_of(checkpoint.lm)), windows)


def test_the_loss_of_a_unit_is_what_an_engine_says(toy, checkpoint, codes):
    """One unit quantized, all others as they are, with text and without."""
    lm = checkpoint.config.lm
    texts = [None, TextCodes(checkpoint).of(TEXT)]
    units = units_of(lm)
    losses = measured(checkpoint, codes, texts).sensitivities(units)
    plain = segue.load(str(toy), engine="mlx").engine
    for unit in (units[0], units[3], units[-2], units[-1]):
        alone = Problem([unit], Options(cross_bits=2), {unit.name: 0.0})
        recipe = recipe_of(alone, {unit.name: MEASURED}, PlanShape.of(lm))
        view = quantized(open_checkpoint(str(toy)), recipe)
        stored = {m: weights_of(view.lm, view.config.quantization)(f"{m}.weight") for m in
                  unit.modules}  # fmt: skip
        other = segue.load(str(toy), engine="mlx").engine
        replace_weights(other, unit, stored)
        found = []
        for each, text in zip(codes, ("", TEXT), strict=True):
            logits = [
                counted_logits(engine, each, engine.condition(text) if text else None)
                for engine in (plain, other)
            ]
            counted = each.T[min(50, each.shape[1] // 2) :]
            found.append(compare(logits[0], logits[1], counted).kl.mean())
        assert losses[unit.name] == pytest.approx(np.mean(found), rel=2e-2, abs=1e-6)
        assert losses[unit.name] > 0


def replace_weights(engine, unit, stored):
    import mlx.core as mx

    rows = mx.array(np.concatenate([stored[module] for module in unit.modules]))
    if unit.layer is None:
        engine.lm.lm_heads.weight = rows
    elif unit.part == "self_attn.qkv":
        engine.lm.layers[unit.layer].self_attn.qkv_proj.weight = rows
    elif unit.part == "cross_attn.kv":
        attention = engine.lm.layers[unit.layer].encoder_attn
        attention.k_proj.weight, attention.v_proj.weight = mx.split(rows, 2)
    else:
        engine.lm.layers[unit.layer][unit.part].weight = rows


def test_without_text_cross_attention_loses_nothing(checkpoint, codes):
    losses = measured(checkpoint, codes).sensitivities(units_of(checkpoint.config.lm))
    assert {loss for name, loss in losses.items() if "cross_attn" in name} == {0.0}


def test_units_are_measured_as_they_are_said_to_be_rounded(checkpoint, codes):
    measurements, units = measured(checkpoint, codes), units_of(checkpoint.config.lm)
    weight, first = weights_of(checkpoint.lm), units[0]
    asked = []

    def rounded(name):
        asked.append(name)
        return 0.5 * weight(name) if name.removesuffix(".weight") in first.modules else weight(name)

    losses = measurements.sensitivities(units, rounded=rounded)
    assert losses.pop(first.name) > 1e-4
    assert max(map(abs, losses.values())) < 1e-6
    assert asked == [f"{m}.weight" for u in units if not u.reads_text for m in u.modules]


def test_a_run_that_is_stopped_goes_on_where_it_was(checkpoint, codes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    units, facts = units_of(checkpoint.config.lm), {"weights": weights_digest(checkpoint)}
    whole = measured(checkpoint, codes).sensitivities(units)

    class KilledError(Exception):
        pass

    def write(losses):
        SensitivityCache(facts).write(losses)
        if len(losses) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        measured(checkpoint, codes).sensitivities(units, SensitivityCache(facts).read(), write)
    known = SensitivityCache(facts).read()
    assert list(known) == [unit.name for unit in units[:5]]
    anew = []
    again = measured(checkpoint, codes).sensitivities(units, known, lambda all_: anew.append(all_))
    assert again == whole
    assert len(anew) == len(units) - 5
    assert SensitivityCache(facts | {"weights": "others"}).read() == {}


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": NaN, "b": "x"}', ""])
def test_a_damaged_cache_is_measured_anew(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = SensitivityCache({})
    cache.path.write_text(content)
    assert cache.read() == {}


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "segue").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RequestError, match="point XDG_CACHE_HOME"):
        SensitivityCache({})


def test_the_same_model_loses_nothing(checkpoint, codes):
    measurements = measured(checkpoint, codes)
    assert measurements.divergence(weights_of(checkpoint.lm)) == pytest.approx(0, abs=1e-5)
