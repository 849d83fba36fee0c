"""LoRA adapters: merged as peft does, and what cannot be merged is refused by name."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import segue
from segue.checkpoints.adapters import AdapterChoice
from segue.checkpoints.hugging_face import save_hugging_face
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.errors import CheckpointError, ModelOverflowError

from . import torch_files

GOLDEN = Path(__file__).parent.parent / "golden"
LAYER = "decoder.model.decoder.layers.0."
QUERY = f"{LAYER}self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}


def low_rank(rows=64, columns=64, rank=2, seed=0):
    random = np.random.default_rng(seed)
    a = random.normal(0, 0.1, (rank, columns)).astype(np.float32)
    return a, random.normal(0, 0.1, (rows, rank)).astype(np.float32)


def tensors(module=QUERY, **shape):
    a, b = low_rank(**shape)
    prefix = f"base_model.model.{module}."
    return {f"{prefix}lora_A.weight": a, f"{prefix}lora_B.weight": b}


@pytest.fixture
def adapter(tmp_path):
    def write(state=None, name="adapter", **config):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
        if state is None or state:
            save_file(tensors() if state is None else state, folder / "adapter_model.safetensors")
        return folder

    return write


def weight(checkpoint, name=f"{QUERY}.weight"):
    return checkpoint.lm[name].read()


def opened(toy, *choices):
    return open_checkpoint(str(toy), adapters=[AdapterChoice.parse(str(c)) for c in choices])


def refusal(toy, *choices):
    with pytest.raises(CheckpointError) as caught:
        opened(toy, *choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- As peft merges ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
@pytest.mark.parametrize("name", ["whole", "dora"])
def test_a_merged_model_is_that_of_peft(name, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    folder = GOLDEN / "adapters" / name
    engine = segue.load(str(GOLDEN / "mono"), engine=engine, adapters=[str(folder)]).engine
    sequence = np.load(GOLDEN / "mono" / "outputs.npz")["sequence"].astype(np.int32)
    logits = engine.logits(sequence, engine.condition("drums piano fast slow"))
    with np.load(folder / "logits.npz") as expected:
        assert np.abs(logits - expected["text"]).max() < 1e-4


def test_alpha_over_rank_scales_the_product(toy, adapter):
    a, b = low_rank()
    before = weight(opened(toy))
    after = weight(opened(toy, adapter()))
    assert after.dtype == before.dtype
    assert np.allclose(after, before + 3 * b @ a, atol=1e-6)
    stable = weight(opened(toy, adapter(name="stable", use_rslora=True)))
    assert np.allclose(stable, before + 6 / 2**0.5 * b @ a, atol=1e-6)
    other = weight(opened(toy, adapter(name="other", alpha_pattern={"q_proj": 2, "k_proj": 9})))
    assert np.allclose(other, before + b @ a, atol=1e-6)
    anchored = {"^q_proj": 2, f"^{QUERY}": 4}
    other = weight(opened(toy, adapter(name="anchored", alpha_pattern=anchored)))
    assert np.allclose(other, before + 2 * b @ a, atol=1e-6)


def test_a_scale_and_a_second_adapter(toy, adapter):
    first, second = adapter(), adapter(tensors(seed=1), name="second")
    before, difference = weight(opened(toy)), weight(opened(toy, first)) - weight(opened(toy))
    assert np.array_equal(weight(opened(toy, f"{first}:0")), before)
    half = weight(opened(toy, f"{first}:-0.5"))
    assert np.allclose(half, before - difference / 2, atol=1e-6)
    both = weight(opened(toy, first, second))
    alone = weight(opened(toy, second)) - before
    assert np.allclose(both, before + difference + alone, atol=1e-6)


def test_an_adapter_of_the_decoder_alone_and_in_a_torch_file(toy, adapter):
    expected = weight(opened(toy, adapter()))
    alone = adapter(tensors(QUERY.removeprefix("decoder.")), name="alone")
    assert np.array_equal(weight(opened(toy, alone)), expected)
    folder = adapter({}, name="torch")
    torch_files.save(tensors(), folder / "adapter_model.bin")
    assert np.array_equal(weight(opened(toy, folder)), expected)


def test_nothing_is_read_before_a_tensor_is_taken(toy, adapter):
    folder = adapter()
    checkpoint = opened(toy, folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        weight(checkpoint)


# --- What follows from it ------------------------------------------------------------------------


def test_what_is_quantized_is_the_merged_weight(toy, adapter, tmp_path):
    recipe = Recipe(bits=8, group_size=32)
    save_quantized(opened(toy, adapter()), recipe, tmp_path / "q")
    state = load_file(tmp_path / "q" / "model.safetensors")
    stack = f"{LAYER}self_attn.qkv_proj."
    packed, scales, biases = (
        mx.array(state[f"{stack}{kind}"][:64]) for kind in ("weight", "scales", "biases")
    )
    found = np.array(mx.dequantize(packed, scales, biases, group_size=32, bits=8))
    assert np.abs(found - weight(opened(toy, adapter(name="again")))).max() < 0.02
    assert "is quantized" in refusal(tmp_path / "q", adapter(name="third"))


def test_a_merged_folder_plays_the_same(toy, adapter, tmp_path):
    folder = adapter()
    save_hugging_face(opened(toy, folder), tmp_path / "merged")
    prompt = np.random.default_rng(0).normal(0, 0.1, 32_000)

    def played(model):
        return model.continue_audio(
            prompt, 32_000, prompt_seconds=0.5, output_seconds=1, seed=3
        ).takes[0]

    one = played(segue.load(str(toy), adapters=[str(folder)]))
    other = played(segue.load(str(tmp_path / "merged")))
    assert np.array_equal(one.codes, other.codes)
    assert np.allclose(one.audio.samples, other.audio.samples, atol=1e-6)
    names = load_file(tmp_path / "merged" / "model.safetensors")
    assert f"{QUERY}.weight" in names
    assert "audio_encoder.encoder.layers.0.conv.parametrizations.weight.original0" in names


def test_a_merge_that_overflows_is_not_written(toy, adapter, tmp_path):
    state = {name: np.full_like(values, 1e30) for name, values in tensors().items()}
    with pytest.raises(ModelOverflowError):
        save_hugging_face(opened(toy, adapter(state)), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"something_new": 3}, "something_new"),
        ({"alpha_pattern": {"(a+)+b": 2}}, "more than a name"),
        ({"alpha_pattern": {"q_proj": "2"}}, "no number"),
        ({"lora_alpha": "many"}, "lora_alpha"),
    ],
)
def test_a_configuration_that_would_play_something_else(toy, adapter, config, words):
    assert words in refusal(toy, adapter(**config))


def test_a_field_that_says_nothing_is_no_matter(toy, adapter):
    opened(toy, adapter(something_new=None, another={}))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (tensors(f"{LAYER}self_attn.z_proj"), "does not have"),
        (tensors(columns=32), "as if it were (64, 32)"),
        (tensors("audio_encoder.encoder.layers.0.conv"), "the codec"),
        (dict(list(tensors().items())[:1]), "lora_B is missing"),
        ({f"{QUERY}.lora_C.weight": np.zeros(3, np.float32)}, "lora_C"),
        ({**tensors(), f"{QUERY}.lora_magnitude_vector": np.ones(3, np.float32)}, "no length"),
        (
            {f"{QUERY}.lora_A.weight": low_rank()[0], f"{QUERY}.lora_B.weight": low_rank()[0]},
            "no product",
        ),
    ],
)
def test_tensors_that_do_not_fit(toy, adapter, state, words):
    assert words in refusal(toy, adapter(state))


def test_a_text_encoder_that_does_not_fit_is_refused_with_the_text(toy, adapter):
    folder = adapter(tensors("text_encoder.encoder.block.0.layer.0.SelfAttention.x"))
    with pytest.raises(CheckpointError, match="does not have"):
        opened(toy, folder).text()


def test_the_model_that_it_is_of_is_named_where_it_is_known(toy, adapter):
    other = tensors(columns=32)
    assert "(its model is" not in refusal(toy, adapter(other, base_model_name_or_path=None))
    named = adapter(other, name="named", base_model_name_or_path="facebook/musicgen-large")
    assert "(its model is 'facebook/musicgen-large')" in refusal(toy, named)


def test_what_is_no_adapter(toy, adapter, tmp_path):
    assert "no adapter here" in refusal(toy, toy)
    assert "adapter_model.bin" in refusal(toy, adapter({}))
    assert "there is no folder" in refusal(toy, tmp_path / "nothing")


def test_a_scale_is_read_from_the_end():
    assert AdapterChoice.parse("owner/name:0.5") == AdapterChoice("owner/name", 0.5)
    assert AdapterChoice.parse("owner/name") == AdapterChoice("owner/name", 1.0)
    assert AdapterChoice.parse("a:b") == AdapterChoice("a:b", 1.0)
    for typed in (":0.5", "", "a:1e9", "a:nan"):
        with pytest.raises(CheckpointError):
            AdapterChoice.parse(typed)


def test_a_folder_whose_name_ends_like_a_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mix:2").mkdir()
    assert AdapterChoice.parse("mix:2") == AdapterChoice("mix:2", 1.0)
