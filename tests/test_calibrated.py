"""Methods that look at music, behind the doors that quantize: in memory, and to a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest

import segue
from segue.checkpoints.recipe import Calibration, Recipe
from segue.cli import main
from segue.errors import RequestError
from segue.pattern import delay

GPTQ = Recipe("decoder-linears", 4, 32, method="gptq", calibration=Calibration(self_takes=1))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def logits_of(model):
    lm = model.config.lm
    codes = np.random.default_rng(0).integers(0, lm.cardinality, (lm.num_codebooks, 40))
    return model.engine.logits(delay(codes.astype(np.int32), lm.delays, lm.special_token))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "gptq+distill"])
def test_in_memory_and_from_a_folder_it_is_one_model(toy, tmp_path, capsys, method):
    folder = tmp_path / "q4"
    line = ["quantize", str(toy), str(folder), "--q-group-size", "32", "--method", method]
    recipe = replace(GPTQ, method=method)
    if recipe.distils:
        recipe = replace(recipe, distill_steps=2)
        line += ["--distill-steps", "2"]
    assert main([*line, "--self-takes", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["recipe"]["method"] == method
    block = json.loads((folder / "config.json").read_text())["quantization"]
    assert block["method"]["name"] == method
    assert block["method"]["version"] >= 1

    saved = segue.load(str(folder), engine="mlx")
    memory = segue.load(str(toy), engine="mlx", recipe=recipe)
    np.testing.assert_array_equal(logits_of(saved), logits_of(memory))
    assert memory.engine.load_report.quantized
    nearest = segue.load(str(toy), engine="mlx", recipe=Recipe("decoder-linears", 4, 32))
    assert np.abs(logits_of(nearest) - logits_of(memory)).max() > 1e-3


def test_a_method_that_there_is_none_of_is_one_line(toy, tmp_path, capsys):
    line = ["quantize", str(toy), str(tmp_path / "x"), "--recipe", "q8", "--method", "distill"]
    code = main(line)
    printed = capsys.readouterr()
    assert code == 2, printed
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_what_is_quantized_already_is_not_looked_at(toy, tmp_path):
    assert main(["quantize", str(toy), str(tmp_path / "q8"), "--q-group-size", "32"]) == 0
    with pytest.raises(RequestError, match="is quantized already"):
        segue.load(str(tmp_path / "q8"), engine="mlx", recipe=GPTQ)
