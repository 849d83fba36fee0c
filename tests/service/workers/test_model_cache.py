"""Which models stay loaded, and what a model is loaded with."""

import numpy as np
import pytest
import yaml

from segue.checkpoints.recipe import PRESETS, Recipe
from segue.engine.shared import SharedEngine
from segue.errors import CheckpointError, RequestError
from segue.progress import SILENT
from segue.service.quantization import NONE, Quantization
from segue.service.workers.model_cache import ModelCache, ModelSpec
from segue.service.workers.quantized_cache import QuantizedCache
from tests.checkpoints import torch_files
from tests.checkpoints.published_configs import XP_LM


def test_a_model_that_is_stored_quantized_runs_as_it_is(tmp_path, toy):
    stored = QuantizedCache(tmp_path / "variants", 1 << 30).find_or_make(
        str(toy), None, Recipe(bits=8), SILENT
    )
    models = ModelCache("auto", None, QuantizedCache(tmp_path / "none", 1 << 30), budget=1 << 30)

    def q4(explicit):
        recipe = PRESETS["q4_decoder_linears"]
        return ModelSpec(str(stored), None, Quantization("q4_decoder_linears", recipe, explicit))

    for _ in range(2):  # whether it is loaded or not
        assert models.get(q4(explicit=False), SILENT).quantization == "q8-g64 as stored"
        with pytest.raises(RequestError, match="stored quantized already"):
            models.get(q4(explicit=True), SILENT)
    assert not (tmp_path / "none").exists()


def test_a_small_memory_holds_the_last_model_alone(tmp_path, toy):
    models = ModelCache("auto", None, QuantizedCache(tmp_path, 1 << 30), budget=1)
    plain = ModelSpec(str(toy), None, NONE)
    q8 = ModelSpec(str(toy), None, Quantization("q8", Recipe(bits=8), explicit=True))
    first = models.get(plain, SILENT)
    assert models.get(plain, SILENT) is first
    models.get(q8, SILENT)
    assert (plain in models, q8 in models) == (False, True)


@pytest.mark.parametrize(("budget", "rows"), [(1 << 30, 4), (1 << 23, 2), (1, 1)])
def test_rows_that_share_steps_are_as_many_as_memory_has_room_for(tmp_path, toy, budget, rows):
    """A row of the toy takes 1.6 MB, and rows half of the budget."""
    models = ModelCache("auto", None, QuantizedCache(tmp_path, 1), budget, batch_rows=4)
    engine = models.get(ModelSpec(str(toy), None, NONE), SILENT).engine
    assert isinstance(engine, SharedEngine)
    assert engine.max_rows == rows


def test_nothing_is_shared_where_one_job_runs_at_a_time(tmp_path, toy):
    loaded = ModelCache("auto", None, QuantizedCache(tmp_path, 1), 1 << 30).get(
        ModelSpec(str(toy), None, NONE), SILENT
    )
    assert loaded.engine is loaded.model.engine


def test_a_base_model_is_opened_only_where_the_fine_tune_needs_it(tmp_path, toy, monkeypatch):
    """And not where a line that says what is wrong happens to speak of `--base-model`."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    models = ModelCache("auto", None, QuantizedCache(tmp_path / "none", 1), budget=1 << 30)

    def refusal(name, **more):
        folder = tmp_path / name
        folder.mkdir()
        torch_files.save({"best_state": state, **more}, folder / "state_dict.bin")
        spec = ModelSpec(str(folder), "somebody/base", NONE)
        with pytest.raises(CheckpointError) as refused:
            models.get(spec, SILENT)
        return str(refused.value)

    state = {"emb.0.weight": np.zeros((5, 4), np.float32)}
    assert "somebody/base" in refusal("says nothing")
    wrong = {"transformer_lm": XP_LM["transformer_lm"] | {"norm_first": False}}
    line = refusal("trained with --base-model", **{"xp.cfg": yaml.safe_dump(XP_LM | wrong)})
    assert "norm_first is False" in line
