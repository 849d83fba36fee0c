"""One lazy view of a quantized checkpoint: what is saved, and what both engines load from."""

import json
import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from segue.checkpoints.load_report import LoadReport
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized, save_quantized
from segue.checkpoints.recipe import Recipe
from segue.checkpoints.tensors import Tensors
from segue.quantization.methods import nearest

FC1 = "decoder.model.decoder.layers.0.fc1"


@pytest.fixture
def counted(toy):
    """A checkpoint, and how often each tensor of its language model was read."""
    checkpoint, reads = open_checkpoint(str(toy)), {}

    def counting(name, tensor):
        def read():
            reads[name] = reads.get(name, 0) + 1
            return tensor.read()

        return replace(tensor, read=read)

    checkpoint.lm = Tensors({name: counting(name, t) for name, t in checkpoint.lm.items()})
    return checkpoint, reads


def test_nothing_is_read_before_it_is_taken_and_each_weight_once(counted):
    checkpoint, reads = counted
    names, report = set(checkpoint.lm), LoadReport()
    view = quantized(checkpoint, Recipe("all-quantizable", 4, 32), "float16", report)
    assert checkpoint.lm == {}
    assert reads == {}
    assert FC1 in report.quantized  # names are known by then
    for name in list(view.lm):
        shape = view.lm[name].shape
        assert view.lm.take(name).shape == shape
    assert reads == dict.fromkeys(names, 1)


def test_a_module_that_is_read_again_is_not_quantized_again(counted):
    """OpenVINO reads every tensor once for each graph that it builds."""
    checkpoint, reads = counted
    view, rounds = quantized(checkpoint, Recipe(bits=8)), []
    for _ in range(2):
        rounds.append([view.lm[f"{FC1}.{kind}"].read() for kind in ("weight", "scales", "biases")])
    for one, other in zip(*rounds, strict=True):
        np.testing.assert_array_equal(one, other)
    assert reads == {f"{FC1}.weight": 1}


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("all-quantizable", 4, 32),
        Recipe("all-quantizable", 3, 32, method="search"),
        Recipe(bits=4, group_size=32, mode="mxfp4"),
        None,
    ],
)
@pytest.mark.parametrize("cast_dtype", [None, "float16", "bfloat16"])
def test_the_view_is_what_is_saved_bit_by_bit(toy, tmp_path, recipe, cast_dtype):
    save_quantized(open_checkpoint(str(toy)), recipe, tmp_path / "q", cast_dtype)
    saved = open_checkpoint(str(tmp_path / "q"))
    view = quantized(open_checkpoint(str(toy)), recipe, cast_dtype)
    assert set(view.lm) == set(saved.lm)
    assert view.config == saved.config
    for name in list(saved.lm):
        ours, theirs = view.lm.take(name), saved.lm.take(name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


def test_how_a_weight_is_quantized_is_one_function(toy):
    seen = []

    def method(module, weight, params):
        seen.append((weight.shape, weight.dtype, params))
        parts = nearest(module, weight, params)
        return parts | {"scales": mx.zeros_like(parts["scales"])}

    recipe = Recipe("decoder-linears", 4, 32)
    view = quantized(open_checkpoint(str(toy)), recipe, "float16", method=method)
    assert not view.lm[f"{FC1}.scales"].read().any()
    shape = open_checkpoint(str(toy)).lm[f"{FC1}.weight"].shape
    assert seen == [(shape, mx.float16, recipe.params)]


def test_what_is_taken_is_held_by_nobody_else(toy):
    """At no time more is in memory than one module, as it was and as it is packed."""
    checkpoint = open_checkpoint(str(toy))
    largest = max(4 * math.prod(tensor.shape) for tensor in checkpoint.lm.values())
    view = quantized(checkpoint, Recipe("all-quantizable", 8, 32))
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for name in list(view.lm):
        view.lm.take(name)
    assert mx.get_active_memory() - before <= 4096
    assert mx.get_peak_memory() - before < 2 * largest


def test_a_folder_says_how_it_was_quantized(toy, tmp_path):
    for method, said in (("nearest", None), ("search", {"name": "search", "version": 3})):
        recipe = Recipe("decoder-linears", 4, 32, method=method)
        folder = save_quantized(open_checkpoint(str(toy)), recipe, tmp_path / method).folder
        block = json.loads((folder / "config.json").read_text())["quantization"]
        assert block.get("method") == said  # folders by nearest are what they always were
        found = open_checkpoint(str(folder)).config.quantization
        assert found.method["name"] == method
        assert found.name == ("q4-g32" if said is None else "q4-g32-search")
        assert found.modules == {}
