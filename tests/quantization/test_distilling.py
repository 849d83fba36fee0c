"""Distillation: less is lost on what was held out, by training that one seed decides."""

import json
from dataclasses import replace

import numpy as np
import pytest

from segue import load
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized, save_quantized
from segue.checkpoints.recipe import Calibration, Recipe
from segue.engine.mlx import MLXEngine
from segue.engine.openvino import OpenVINOEngine
from segue.errors import RequestError
from segue.quantization import distilling, gradients
from segue.quantization.calibration import CalibrationSet, TextCodes
from segue.quantization.evaluation import Distributions, divergence
from segue.quantization.preparation import looked_at, quantize_with
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows

from .conftest import windows

RECIPE = Recipe(bits=3, group_size=32, method="nearest+distill", distill_steps=24)


@pytest.fixture
def music(cache):
    return CalibrationSet(windows(8), windows(3, seed=1))


def view_of(toy, music, recipe=RECIPE):
    return quantize_with(open_checkpoint(str(toy)), recipe, music)


def values(view):
    return {name: np.array(tensor.read()) for name, tensor in view.lm.items()}


def lost(toy, view, windows):
    checkpoint = open_checkpoint(str(toy))
    lm, texts = checkpoint.config.lm, TextCodes(checkpoint)
    codes = [window.codes for window in windows]
    laid_out = Windows.of(lm, codes, [texts.of(window.text) for window in windows])
    read = weights_of(view.lm, view.config.quantization)
    baseline, found = (
        Distributions.of(lm, each, laid_out) for each in (weights_of(checkpoint.lm), read)
    )
    return divergence(lm, baseline, found).mean()


def same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("start", "share"), [("nearest", 0.9), ("search", 0.9), ("gptq", 1.0)])
def test_it_loses_less_than_what_it_began_from(toy, cache, start, share):
    music = CalibrationSet(windows(48), windows(3, seed=1))
    recipe = replace(RECIPE, method=f"{start}+distill")
    found = looked_at(open_checkpoint(str(toy)), recipe, music)
    plain, checkpoint = replace(RECIPE, method=start, distill_steps=None), open_checkpoint(str(toy))
    if start == "gptq":
        before = quantize_with(checkpoint, plain, music)
    else:
        before = quantized(checkpoint, plain)
    view = view_of(toy, music, recipe)
    for which, key in ((music.held_out, ""), (music.windows[::16], "_seen")):
        assert found.details["kl"]["start" + key] == pytest.approx(
            lost(toy, before, which), rel=1e-4
        )
        assert found.details["kl"]["end" + key] == pytest.approx(lost(toy, view, which), rel=1e-4)
    assert lost(toy, view, music.held_out) < share * lost(toy, before, music.held_out)
    (line,) = [note for note in found.notes if "distilled in 24 steps" in note]
    assert "3 windows that were held out" in line


def test_integers_stay_and_grids_and_norms_do_not(toy, music):
    before = values(quantized(open_checkpoint(str(toy)), Recipe(bits=3, group_size=32)))
    after = values(view_of(toy, music))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not [name for name in changed if name.endswith("_proj.weight")]
    assert {name for name in before if name.endswith((".scales", ".biases"))} < changed
    norms = {name for name in before if "layer_norm" in name}
    assert norms < changed
    for name in changed:
        assert before[name].dtype == after[name].dtype


def test_one_seed_is_one_result(toy, music, cache, tmp_path, monkeypatch):
    first = values(view_of(toy, music))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert same(first, values(view_of(toy, music)))
    other = replace(RECIPE, calibration=Calibration(seed=1))
    assert not same(first, values(view_of(toy, music, other)))


class StoppedError(Exception):
    pass


def test_what_was_stopped_goes_on(toy, music, tmp_path, monkeypatch):
    whole = values(view_of(toy, music))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    original, steps = gradients.divergence_and_gradients, []

    def counted(*args):
        steps.append(1)
        if len(steps) == 17:
            raise StoppedError
        return original(*args)

    monkeypatch.setattr(distilling, "divergence_and_gradients", counted)
    with pytest.raises(StoppedError):
        view_of(toy, music)
    steps.clear()
    assert same(whole, values(view_of(toy, music)))
    assert len(steps) == 24 - 15  # the state is kept every third step
    monkeypatch.setattr(distilling, "divergence_and_gradients", None)
    assert same(whole, values(view_of(toy, music)))


def test_what_is_no_better_is_not_taken(toy, music, monkeypatch):
    monkeypatch.setattr("segue.quantization.trainables.SHIFT_RATE", 1.0)
    before = values(quantized(open_checkpoint(str(toy)), Recipe(bits=3, group_size=32)))
    assert same(before, values(view_of(toy, music)))


@pytest.mark.parametrize("engine", [MLXEngine, OpenVINOEngine])
@pytest.mark.parametrize("bits", [4, 8, 3])
def test_what_is_saved_is_what_runs(toy, music, tmp_path, engine, bits):
    recipe = replace(RECIPE, bits=bits, distill_steps=4)
    found = looked_at(open_checkpoint(str(toy)), recipe, music)
    folder = save_quantized(
        open_checkpoint(str(toy)),
        recipe,
        tmp_path / "saved",
        method=found.method,
        details=found.details,
        trained=found.trained,
    ).folder
    block = json.loads((folder / "config.json").read_text())["quantization"]["method"]
    assert block["name"] == "nearest+distill"
    assert block["version"] == 1
    assert block["norms"] is True
    assert block["steps"] == 4
    assert block["calibration"] == music.digest
    sequence = np.random.default_rng(0).integers(0, 64, (4, 12)).astype(np.int32)
    view = view_of(toy, music, recipe)
    read = weights_of(view.lm, view.config.quantization)
    exact = {name: read(name) for name in view.lm if name.endswith(("norm.bias", "q_proj.weight"))}
    in_memory = engine(view).logits(sequence)
    saved = open_checkpoint(str(folder))
    read = weights_of(saved.lm, saved.config.quantization)
    for name, each in exact.items():
        np.testing.assert_array_equal(each, read(name))
    from_disk = load(str(folder), engine=engine.name).engine.logits(sequence)
    np.testing.assert_array_equal(in_memory, from_disk)


def test_engines_agree(toy, music):
    sequence = np.random.default_rng(0).integers(0, 64, (4, 12)).astype(np.int32)
    recipe = replace(RECIPE, bits=4)
    mlx, openvino = (
        engine(view_of(toy, music, recipe)).logits(sequence)
        for engine in (MLXEngine, OpenVINOEngine)
    )
    np.testing.assert_allclose(mlx, openvino, atol=2e-4 * np.abs(mlx).max())


def test_without_held_out_music_some_is_put_apart(toy, cache):
    found = looked_at(open_checkpoint(str(toy)), RECIPE, CalibrationSet(windows(16)))
    assert "2 windows that were held out" in found.notes[-1]
    few = looked_at(open_checkpoint(str(toy)), RECIPE, CalibrationSet(windows(2)))
    assert "2 windows that it was trained on: none were left" in few.notes[-1]


def test_nonsense_is_refused(toy, music, tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="without music"):
        looked_at(open_checkpoint(str(toy)), RECIPE, CalibrationSet(()))
    folder = save_quantized(
        open_checkpoint(str(toy)), Recipe(group_size=32), tmp_path / "q4"
    ).folder
    with pytest.raises(RequestError, match="quantized already"):
        looked_at(open_checkpoint(str(folder)), RECIPE, music)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RequestError, match="XDG_CACHE_HOME"):
        looked_at(open_checkpoint(str(toy)), RECIPE, music)
