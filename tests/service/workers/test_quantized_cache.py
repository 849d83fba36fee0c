"""Quantized checkpoints on disk: bounded, and made anew when the original changes."""

import shutil

from segue.checkpoints.recipe import Recipe
from segue.demo.toy import write_checkpoint
from segue.progress import SILENT
from segue.service.workers.quantized_cache import QuantizedCache


def test_it_is_bounded_and_quantizes_anew_when_the_checkpoint_changes(tmp_path, toy):
    model = tmp_path / "model"
    shutil.copytree(toy, model)
    cache = QuantizedCache(tmp_path / "variants", limit=1)
    first = cache.find_or_make(str(model), None, Recipe(bits=8), SILENT)
    assert cache.find_or_make(str(model), None, Recipe(bits=8), SILENT) == first
    write_checkpoint(model, seed=5)
    second = cache.find_or_make(str(model), None, Recipe(bits=8), SILENT)
    assert second != first
    assert not first.exists()
    assert second.exists()


def test_what_a_killed_worker_left_unfinished_is_removed(tmp_path):
    (tmp_path / ".half-written").mkdir()
    (tmp_path / "finished").mkdir()
    QuantizedCache(tmp_path, limit=1).remove_unfinished()
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]
