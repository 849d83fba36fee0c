"""Quantized checkpoints on disk: bounded, and made anew when the original changes."""

import shutil
import threading
from contextlib import contextmanager

from segue.checkpoints.recipe import Recipe
from segue.demo.toy import write_checkpoint
from segue.progress import SILENT, Progress
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


class Paused(Progress):
    """Stops in the middle of quantizing until it may go on; notes who waits for another."""

    def __init__(self):
        self.begun, self.waits, self.go = threading.Event(), threading.Event(), threading.Event()

    @contextmanager
    def stage(self, name, total=None, unit=""):
        if name == "quantize":
            self.begun.set()
            assert self.go.wait(60)
        yield (lambda done, total=None: self.waits.set())


def test_two_workers_make_what_both_want_once(tmp_path, toy):
    """And a third that starts meanwhile removes nothing."""
    first, second, found = Paused(), Paused(), []
    second.go.set()

    def make(progress):
        cache = QuantizedCache(tmp_path / "variants", limit=1 << 30)
        found.append(cache.find_or_make(str(toy), None, Recipe(bits=8), progress))

    threads = [threading.Thread(target=make, args=(each,)) for each in (first, second)]
    threads[0].start()
    assert first.begun.wait(60)
    threads[1].start()
    assert second.waits.wait(60)
    QuantizedCache(tmp_path / "variants", limit=1).remove_unfinished()
    first.go.set()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1]
    assert found[0].is_dir()
    assert not second.begun.is_set()
