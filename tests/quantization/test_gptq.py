"""GPTQ over a whole model: what is saved is what runs, and what was interrupted goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from segue import load
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized, save_quantized
from segue.checkpoints.recipe import Recipe
from segue.engine.mlx import MLXEngine
from segue.engine.openvino import OpenVINOEngine
from segue.errors import RequestError
from segue.quantization import rounding
from segue.quantization.arithmetic import MLXArithmetic, NumpyArithmetic
from segue.quantization.calibration import CalibrationSet, TextCodes
from segue.quantization.effort import spoken
from segue.quantization.evaluation import Distributions, divergence
from segue.quantization.forward import Forward
from segue.quantization.gptq import gptq
from segue.quantization.layer_cache import sweep
from segue.quantization.preparation import quantize_with
from segue.quantization.weights import weights_of
from segue.quantization.windows import Windows

RECIPE = Recipe(bits=3, group_size=32, method="gptq")


def values(view):
    return {name: np.array(tensor.read()) for name, tensor in view.lm.items()}


def test_it_loses_less_than_a_search_and_that_less_than_the_nearest(toy, music, cache):
    """On the music that it is given: a toy's is noise, and of other noise it knows nothing."""
    checkpoint = open_checkpoint(str(toy))
    lm, texts = checkpoint.config.lm, TextCodes(checkpoint)
    codes = [window.codes for window in music.windows]
    windows = Windows.of(lm, codes, [texts.of(window.text) for window in music.windows])
    baseline = Distributions.of(lm, weights_of(checkpoint.lm), windows)

    def lost(view):
        weight = weights_of(view.lm, view.config.quantization)
        return divergence(lm, baseline, Distributions.of(lm, weight, windows)).mean()

    nearest, searched = (
        lost(quantized(open_checkpoint(str(toy)), replace(RECIPE, method=method)))
        for method in ("nearest", "search")
    )
    known = lost(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    assert 0 < known < 0.9 * searched < 0.9 * nearest


@pytest.mark.parametrize("engine", [MLXEngine, OpenVINOEngine])
def test_what_is_saved_is_what_runs(toy, music, cache, tmp_path, engine):
    found = gptq(open_checkpoint(str(toy)), RECIPE, music)
    folder = save_quantized(
        open_checkpoint(str(toy)),
        RECIPE,
        tmp_path / "saved",
        method=found.method,
        details=found.details,
    ).folder
    block = json.loads((folder / "config.json").read_text())["quantization"]
    assert block["method"]["name"] == "gptq"
    assert block["method"]["calibration"] == music.digest
    sequence = np.random.default_rng(0).integers(0, 64, (4, 12)).astype(np.int32)
    view = quantize_with(open_checkpoint(str(toy)), RECIPE, music)
    in_memory = engine(view).logits(sequence)
    saved = load(str(folder), engine=engine.name).engine.logits(sequence)
    np.testing.assert_array_equal(in_memory, saved)


def test_what_was_interrupted_goes_on(toy, music, cache, monkeypatch):
    whole = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    (folder,) = cache.iterdir()
    (folder / "layer-1.safetensors").unlink()
    count, original = [], rounding.calibrated

    def counted(*args):
        count.append(1)
        return original(*args)

    monkeypatch.setattr(rounding, "calibrated", counted)
    again = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    # q, k, v, out of both attentions, and the feed-forward; one more for the estimate
    assert len(count) == 11
    assert whole.keys() == again.keys()
    for name, each in whole.items():
        np.testing.assert_array_equal(each, again[name])


KILLED = """
import os, signal, sys
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.recipe import Recipe
from segue.quantization import layer_cache
from segue.quantization.calibration import CalibrationSet
from segue.quantization.effort import spoken
from segue.quantization.forward import Forward
from segue.quantization.gptq import gptq
from tests.quantization.conftest import windows

original, layer_cache.KEPT_SECONDS = layer_cache.LayerCache.keep_hidden, 0

def killed(self, n, rows):
    original(self, n, rows)
    os.kill(os.getpid(), signal.SIGKILL)

layer_cache.LayerCache.keep_hidden = killed
recipe = Recipe(bits=3, group_size=32, method="gptq")
gptq(open_checkpoint(sys.argv[1]), recipe, CalibrationSet(windows(8)))
"""


def test_what_was_killed_goes_on_where_it_was_to_the_same_bits(toy, music, cache, monkeypatch):
    assert Recipe(bits=3, group_size=32, method="gptq") == RECIPE
    done = subprocess.run([sys.executable, "-c", KILLED, str(toy)], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = cache.iterdir()
    assert {file.name for file in folder.iterdir()} == {
        "layer-0.safetensors",
        "hidden-before-1.f32",
    }
    passed, original = [], Forward.layer

    def layer(self, n, *args, **options):
        passed.append(n)
        return original(self, n, *args, **options)

    monkeypatch.setattr(Forward, "layer", layer)
    resumed = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    assert set(passed) == {1}  # the first one is not run again
    assert not list(folder.glob("hidden-*"))
    shutil.rmtree(cache)
    whole = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    for name, each in whole.items():
        np.testing.assert_array_equal(each, resumed[name])


def test_kept_hidden_states_that_are_cut_short_are_not_used(toy, music, cache):
    whole = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    (folder,) = cache.iterdir()
    (folder / "layer-1.safetensors").unlink()
    (folder / "hidden-before-1.f32").write_bytes(bytes(64))
    again = values(quantize_with(open_checkpoint(str(toy)), RECIPE, music))
    for name, each in whole.items():
        np.testing.assert_array_equal(each, again[name])


def test_a_device_of_mlx_loses_no_more_than_numpy(toy, music, cache):
    checkpoint = open_checkpoint(str(toy))
    lm, codes = checkpoint.config.lm, [window.codes for window in music.windows]
    windows = Windows.of(lm, codes)
    baseline, lost = Distributions.of(lm, weights_of(checkpoint.lm), windows), {}
    for arithmetic in (NumpyArithmetic(), MLXArithmetic()):
        opened = open_checkpoint(str(toy))
        found = gptq(opened, RECIPE, music, arithmetic=arithmetic)
        view = quantized(opened, RECIPE, method=found.method)
        weight = weights_of(view.lm, view.config.quantization)
        variant = Distributions.of(lm, weight, windows)
        lost[arithmetic.name] = divergence(lm, baseline, variant).mean()
    assert len(list(cache.iterdir())) == 2  # the integers may differ, so neither is the other's
    assert lost["mlx"] == pytest.approx(lost["numpy"], rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59, ""), (75, " (about 75 s)"), (720, " (about 12 min)"), (12_000, " (about 3 h 20 min)")],
)
def test_an_estimate_is_said_for_people(seconds, words):
    assert spoken(seconds) == words


def test_what_is_done_is_not_done_again(toy, music, cache, monkeypatch):
    quantize_with(open_checkpoint(str(toy)), RECIPE, music)
    monkeypatch.setattr(rounding, "calibrated", None)
    quantize_with(open_checkpoint(str(toy)), RECIPE, music)


def test_other_music_widths_or_types_are_other_files(toy, music, cache):
    checkpoint = open_checkpoint(str(toy))
    gptq(checkpoint, RECIPE, music)
    gptq(checkpoint, replace(RECIPE, bits=4), music)
    gptq(checkpoint, RECIPE, CalibrationSet(music.windows[:4]))
    gptq(checkpoint, RECIPE, music, "float16")
    assert len(list(cache.iterdir())) == 4


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    for n, name in enumerate(("old", "kept", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "layer-0.safetensors").write_bytes(bytes(100))
        os.utime(tmp_path / name, (n, n))
    sweep(tmp_path, keep=tmp_path / "kept", limit=250)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "new"}


def test_what_reads_no_music_is_searched(toy, music, cache):
    recipe = replace(RECIPE, scope="all-quantizable")
    view = quantize_with(open_checkpoint(str(toy)), recipe, music)
    searched = quantized(open_checkpoint(str(toy)), replace(recipe, method="search"))
    name = "decoder.model.decoder.embed_tokens.0.weight"
    np.testing.assert_array_equal(view.lm[name].read(), searched.lm[name].read())


def test_a_few_windows_are_noted(toy, music, cache):
    (note,) = gptq(open_checkpoint(str(toy)), RECIPE, music).notes
    assert "8 windows" in note


def test_nonsense_is_refused(toy, music, cache, tmp_path):
    checkpoint = open_checkpoint(str(toy))
    with pytest.raises(RequestError, match="not the method"):
        gptq(checkpoint, replace(RECIPE, method="search"), music)
    with pytest.raises(RequestError, match="without music"):
        gptq(checkpoint, RECIPE, CalibrationSet(()))
    folder = save_quantized(checkpoint, Recipe(group_size=32), tmp_path / "q4").folder
    with pytest.raises(RequestError, match="quantized already"):
        gptq(open_checkpoint(str(folder)), RECIPE, music)
    assert not cache.exists()


def test_a_cache_that_cannot_be_made_is_one_line(toy, music, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RequestError, match="XDG_CACHE_HOME"):
        gptq(open_checkpoint(str(toy)), RECIPE, music)
