"""The baselines' cache: read again, made anew when damaged, bounded, and never mixed up."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import write_checkpoint
from segue.errors import RequestError
from segue.lab.quality.baselines import UNFINISHED_SECONDS, BaselineCache, key_of, origin_of
from segue.lab.variant import Variant
from tests.disks import fill, small_disk

BASELINE = Variant("baseline")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return BaselineCache()


def arrays(count=1000, seed=0):
    return {
        "codes": np.arange(8, dtype=np.int32).reshape(4, 2),
        "logits": np.random.default_rng(seed).standard_normal(count).astype(np.float32),
    }


def origin(folder, variant=BASELINE, text="", engine="mlx"):
    return origin_of(open_checkpoint(str(folder)), variant, engine, text)


def test_a_cached_entry_is_read_bit_by_bit(cache):
    cache.write("a", arrays())
    found = cache.read("a", ("codes", "logits"))
    for name, values in arrays().items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
    assert cache.read("b", ("codes", "logits")) is None


def test_it_lies_where_caches_lie(cache, tmp_path, monkeypatch):
    assert cache.folder == tmp_path / "xdg" / "segue" / "quality"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert BaselineCache().folder == tmp_path / "home" / ".cache" / "segue" / "quality"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "other arrays"])
def test_what_is_damaged_is_not_there(cache, damage):
    cache.write("a", arrays())
    (path,) = cache.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no archive")
    else:
        np.savez(path, something=np.zeros(3))
    assert cache.read("a", ("codes", "logits")) is None
    cache.write("a", arrays())
    assert cache.read("a", ("codes", "logits")) is not None


def test_what_was_not_used_for_longest_goes_first(cache):
    for n, name in enumerate("abcd"):
        cache.write(name, arrays())
        os.utime(cache.folder / f"{name}.npz", (n, n))
    cache.read("a", ("codes",))
    size = (cache.folder / "a.npz").stat().st_size
    cache.sweep(limit=2 * size)
    assert sorted(path.stem for path in cache.folder.iterdir()) == ["a", "d"]


def test_what_nobody_will_finish_is_swept(cache):
    old, new = cache.folder / "old.part", cache.folder / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    then = time.time() - 2 * UNFINISHED_SECONDS
    os.utime(old, (then, then))
    cache.sweep()
    assert [path.name for path in cache.folder.iterdir()] == ["new.part"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        cache = BaselineCache()
        fill(disk)
        with pytest.raises(RequestError, match=r"No space left on device.*XDG_CACHE_HOME"):
            cache.write("a", arrays())
        assert not list(cache.folder.iterdir())


def test_no_home_is_one_line(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(RequestError, match=r"no home folder.*XDG_CACHE_HOME"):
        BaselineCache()


def test_a_folder_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RequestError, match="XDG_CACHE_HOME"):
        BaselineCache()


def test_a_key_is_of_all_that_counts(toy):
    pytest.importorskip("openvino")
    clip = np.zeros((640, 1), np.float32)
    keys = {
        key_of(origin(toy), "window", clip),
        key_of(origin(toy), "takes", clip, 1),
        key_of(origin(toy), "takes", clip, 2),
        key_of(origin(toy), "window", clip + 1),
        key_of(origin(toy), "window", clip.reshape(320, 2)),
        key_of(origin(toy, Variant("b", "float16")), "window", clip),
        key_of(origin(toy, Variant("b", None, Recipe())), "window", clip),
        key_of(origin(toy, text="drums"), "window", clip),
        key_of(origin(toy, engine="openvino"), "window", clip),
    }
    assert len(keys) == 9
    renamed = origin(toy, Variant("another-name"))
    assert key_of(renamed, "window", clip) in keys


def test_checkpoints_of_one_size_and_time_have_different_keys(toy, tmp_path):
    other = write_checkpoint(tmp_path / "other", seed=1)
    times = (toy / "model.safetensors").stat()
    os.utime(other / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert origin(other) != origin(toy)
    assert origin(shutil.copytree(toy, tmp_path / "moved")) == origin(toy)
