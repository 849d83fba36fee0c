"""Quantized in memory or kept on disk: the same weights, the same codes."""

import gc
import json
import math
import mmap
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import segue
from segue.checkpoints import shards
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.engine.mlx import MLXEngine
from segue.errors import CheckpointError, OutputError, RequestError
from segue.lab.modules import modules_of
from tests.disks import fill, small_disk

RECIPES = [
    Recipe("decoder-linears", 4, 64),
    Recipe("decoder-linears+emb", 8, 32),
    Recipe("all-linears", 2, 32),
    Recipe("all-quantizable", 3, 32),
    Recipe("decoder-linears", 4, 32, "mxfp4"),
]


def codes(model, text="drums"):
    samples = np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32)
    result = model.continue_audio(samples, 32_000, text=text, seed=3, output_seconds=2)
    return result.takes[0].codes


def save(toy, recipe, folder, **options):
    return save_quantized(open_checkpoint(str(toy)), recipe, folder, **options)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("cast_dtype", [None, "float16"])
def test_a_saved_checkpoint_plays_the_same_codes(toy, tmp_path, recipe, cast_dtype):
    save(toy, recipe, tmp_path / "q", cast_dtype=cast_dtype)
    in_memory = segue.load(str(toy), engine="mlx", recipe=recipe, cast_dtype=cast_dtype)
    on_disk = segue.load(str(tmp_path / "q"), engine="mlx")
    for layer in ("self_attn.qkv_proj", "fc2"):
        engines: tuple[Any, ...] = in_memory.engine, on_disk.engine
        ours, theirs = (engine.lm.layers[1] for engine in engines)
        for part in layer.split("."):
            ours, theirs = ours[part], theirs[part]
        for kind in set(ours.parameters()):
            assert mx.array_equal(ours[kind], theirs[kind]), f"{layer}.{kind}"
    np.testing.assert_array_equal(codes(in_memory), codes(on_disk))


def test_fused_products_hold_what_separate_ones_would(toy):
    recipe = Recipe("decoder-linears", 4, 64)
    engine = MLXEngine(open_checkpoint(str(toy)), recipe=recipe)
    stored = load_file(toy / "model.safetensors")
    prefix = "decoder.model.decoder.layers.0.self_attn."
    alone = [mx.quantize(mx.array(stored[f"{prefix}{x}_proj.weight"]), 64, 4) for x in "qkv"]
    fused = engine.lm.layers[0].self_attn.qkv_proj
    for n, kind in enumerate(("weight", "scales", "biases")):
        assert mx.array_equal(fused[kind], mx.concatenate([parts[n] for parts in alone]))


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_what_is_quantized_and_what_is_left_is_named(toy, tmp_path, engine):
    pytest.importorskip(engine)
    saved = save(toy, Recipe("all-quantizable", 4, 64), tmp_path / "q")
    assert saved.left == ("enc_to_dec_proj",)  # the toy's text encoder has 32 dimensions
    assert len(saved.quantized) == 2 * 10 + 4 + 4
    recipe = Recipe("all-quantizable", 4, 64)
    report = segue.load(str(toy), engine=engine, recipe=recipe).engine.load_report
    assert tuple(report.left) == saved.left
    assert sorted(report.quantized) == sorted(saved.quantized)
    on_disk = segue.load(str(tmp_path / "q"), engine=engine).engine.load_report
    assert sorted(on_disk.quantized) == sorted(saved.quantized)


def test_what_runs_as_one_lies_as_one(toy, tmp_path):
    save(toy, Recipe("decoder-linears", 4, 64), tmp_path / "q")
    kept, original = (load_file(path / "model.safetensors") for path in (tmp_path / "q", toy))
    prefix = "decoder.model.decoder.layers.0.self_attn."
    assert f"{prefix}q_proj.weight" not in kept
    alone = [mx.quantize(mx.array(original[f"{prefix}{x}_proj.weight"]), 64, 4)[0] for x in "qkv"]
    assert mx.array_equal(mx.array(kept[f"{prefix}qkv_proj.weight"]), mx.concatenate(alone))
    embeddings = [original[f"decoder.model.decoder.embed_tokens.{k}.weight"] for k in range(4)]
    stacked = kept["decoder.model.decoder.embed_tokens.weight"]
    np.testing.assert_array_equal(stacked, np.concatenate(embeddings))


def test_what_was_saved_is_not_read_before_it_is_used(toy, tmp_path, monkeypatch):
    save(toy, Recipe("all-quantizable", 4, 32), tmp_path / "q")
    checkpoint = open_checkpoint(str(tmp_path / "q"))
    of_the_codec, mapped = len(checkpoint.codec), []
    original = mmap.mmap
    monkeypatch.setattr(mmap, "mmap", lambda *a, **k: (mapped.append(k), original(*a, **k))[1])
    engine = MLXEngine(checkpoint)
    assert len(mapped) == of_the_codec + 1  # and one norm, whose type is looked at
    gc.collect()  # engines of other tests, which would be released meanwhile
    before = mx.get_active_memory()
    engine.read_weights()
    held = modules_of(open_checkpoint(str(tmp_path / "q")), None, engine).weights_bytes
    assert mx.get_active_memory() - before >= held


def test_a_model_plays_in_another_thread_than_it_was_loaded_in(toy, tmp_path):
    save(toy, Recipe(bits=8), tmp_path / "q")
    saved = segue.load(str(tmp_path / "q"), engine="mlx")

    def play():
        try:
            return codes(saved)
        finally:
            mx.clear_streams()  # or MLX ends the process when the thread ends

    with ThreadPoolExecutor(1) as threads:
        played = threads.submit(play).result()
    np.testing.assert_array_equal(played, codes(saved))


def test_a_stack_that_does_not_divide_is_refused(toy, tmp_path):
    save(toy, Recipe(bits=8), tmp_path / "q")
    path = tmp_path / "q" / "model.safetensors"
    kept = load_file(path)
    kept["decoder.lm_heads.scales"] = kept["decoder.lm_heads.scales"][:-1]
    save_file(kept, path)
    with pytest.raises(CheckpointError, match=r"decoder\.lm_heads"):
        open_checkpoint(str(tmp_path / "q"))


def test_a_checkpoint_that_keeps_them_apart_is_read_too(toy, tmp_path):
    """As mlx-lm would write it, under the names of the Hugging Face layout."""
    recipe = Recipe("decoder-linears", 4, 64)
    save(toy, recipe, tmp_path / "q")
    path = tmp_path / "q" / "model.safetensors"
    played = codes(segue.load(str(tmp_path / "q"), engine="mlx"))
    kept = load_file(path)
    lm = open_checkpoint(str(tmp_path / "q"))
    apart = {name: np.array(tensor.read()) for name, tensor in lm.lm.items()}
    whole = {name: array for name, array in kept.items() if name.startswith(("audio_", "text_"))}
    save_file(whole | apart, path)
    np.testing.assert_array_equal(codes(segue.load(str(tmp_path / "q"), engine="mlx")), played)


def test_everything_that_a_run_needs_is_inside(toy, tmp_path, monkeypatch):
    copy = shutil.copytree(toy, tmp_path / "original")
    save(copy, Recipe(bits=8), tmp_path / "q")
    shutil.rmtree(copy)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert codes(segue.load(str(tmp_path / "q"))).shape == (4, 100)
    block = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert block == {"group_size": 64, "bits": 8, "mode": "affine"}


def test_large_checkpoints_are_written_in_shards(toy, tmp_path, monkeypatch):
    save(toy, Recipe(bits=8), tmp_path / "one")
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    save(toy, Recipe(bits=8), tmp_path / "many")
    files = list((tmp_path / "many").glob("model-*-of-*.safetensors"))
    assert len(files) > 3
    one, many = (segue.load(str(tmp_path / name)) for name in ("one", "many"))
    np.testing.assert_array_equal(codes(one), codes(many))


@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(toy, tmp_path, part):
    """Full before the weights, within them, or behind them."""
    save(toy, Recipe(), tmp_path / "whole")
    size = (tmp_path / "whole" / "model.safetensors").stat().st_size
    with small_disk(tmp_path / "disk", size="2m") as disk:
        fill(disk, leave=math.ceil(part * size / 4096) * 4096)
        with pytest.raises(OutputError, match=r"q: cannot be written \(No space left") as error:
            save(toy, Recipe(), disk / "q")
        assert "\n" not in str(error.value)
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_an_existing_folder_is_never_touched(toy, tmp_path):
    (tmp_path / "q").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        save(toy, Recipe(), tmp_path / "q")


def test_what_is_quantized_is_not_quantized_again(toy, tmp_path):
    save(toy, Recipe(bits=8), tmp_path / "q")
    with pytest.raises(RequestError, match="quantized already"):
        save(tmp_path / "q", Recipe(), tmp_path / "again")
    with pytest.raises(RequestError, match="quantized already"):
        segue.load(str(tmp_path / "q"), recipe=Recipe())
