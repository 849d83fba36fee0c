"""Any layout gives the same model, and what is wrong with a checkpoint is said in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from segue.checkpoints.config import HIDDEN_DIMS_OF_T5, LMConfig, ModelConfig
from segue.checkpoints.layouts import from_audiocraft
from segue.checkpoints.opening import open_checkpoint
from segue.demo.toy import CONFIG, write_checkpoint
from segue.engine.mlx import MLXEngine
from segue.errors import CheckpointError
from tests.checkpoints import torch_files
from tests.checkpoints.published_configs import XP_CODEC, XP_LM


def open_engine(folder, **options):
    return MLXEngine(open_checkpoint(str(folder), **options))


def logits(engine, text=None):
    """What a model makes of a fixed sequence: alike if and only if its weights are."""
    K, special = engine.config.lm.num_codebooks, engine.config.lm.special_token
    sequence = np.random.default_rng(0).integers(0, special + 1, (K, 9)).astype(np.int32)
    return engine.logits(sequence, engine.condition(text) if text else None)


def codec_copy(engine):
    C = engine.config.lm.audio_channels
    samples = np.random.default_rng(0).standard_normal((6400, C)).astype(np.float32)
    codes = engine.encode(samples)
    return codes, engine.decode(codes)


def assert_same_model(one, other):
    np.testing.assert_array_equal(logits(one), logits(other))
    np.testing.assert_array_equal(logits(one, "drums fast"), logits(other, "drums fast"))
    for ours, theirs in zip(codec_copy(one), codec_copy(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def edit_config(folder, **parts):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for part, changes in parts.items():
        config[part] = config.get(part, {}) | changes if isinstance(changes, dict) else changes
    path.write_text(json.dumps(config))


@pytest.fixture
def copy(toy, tmp_path):
    return Path(shutil.copytree(toy, tmp_path / "copy"))


# --- AudioCraft, as fine-tunes come -------------------------------------------------------------


def audiocraft_lm(weights):
    """The language model of a Hugging Face checkpoint under AudioCraft's names."""
    state = {}
    prefix = "decoder.model.decoder."
    renames = {
        "embed_tokens": "emb",
        "decoder.lm_heads": "linears",
        "layer_norm": "out_norm",
        "enc_to_dec_proj": "condition_provider.conditioners.description.output_proj",
        "audio_enc_to_dec_proj": "condition_provider.conditioners.self_wav.output_proj",
        "self_attn_layer_norm": "norm1",
        "encoder_attn_layer_norm": "norm_cross",
        "final_layer_norm": "norm2",
        "encoder_attn": "cross_attention",
        "fc1": "linear1",
        "fc2": "linear2",
    }
    for name, array in weights.items():
        if name.startswith(("audio_encoder.", "text_encoder.")):
            continue
        short = name.removeprefix(prefix)
        if match := re.fullmatch(r"layers\.(\d+)\.(\w+)\.(.*)", short):
            n, module, rest = match.groups()
            ours = f"transformer.layers.{n}.{renames.get(module, module)}."
            if rest == "q_proj.weight":
                base = f"{prefix}layers.{n}.{module}."
                parts = [weights[f"{base}{x}_proj.weight"] for x in "qkv"]
                state[f"{ours}in_proj_weight"] = np.concatenate(parts)
            elif rest not in ("k_proj.weight", "v_proj.weight"):
                state[ours + rest] = array
        else:
            head = next(h for h in renames if short.startswith(f"{h}."))
            state[renames[head] + short.removeprefix(head)] = array
    return state


def xp_cfg(lm, **more):
    config = {
        "transformer_lm": {
            "dim": lm["hidden_size"],
            "num_heads": lm["num_attention_heads"],
            "num_layers": lm["num_hidden_layers"],
            "hidden_scale": lm["ffn_dim"] / lm["hidden_size"],
            "n_q": lm["num_codebooks"],
            "card": lm["vocab_size"],
        },
        "interleave_stereo_codebooks": {"use": lm["audio_channels"] == 2},
        "conditioners": {"description": {"t5": {"name": "t5-base"}}},
        **more,
    }
    return json.dumps(config)  # JSON is YAML


@pytest.fixture(params=["toy", "toy_stereo"])
def both(request, tmp_path):
    """A Hugging Face folder, and a fine-tune in AudioCraft's layout without a `config.json`."""
    hf = request.getfixturevalue(request.param)
    lm = json.loads((hf / "config.json").read_text())["decoder"]
    fine_tune = tmp_path / "fine-tune"
    fine_tune.mkdir()
    state = audiocraft_lm(load_file(hf / "model.safetensors"))
    torch_files.save({"best_state": state, "xp.cfg": xp_cfg(lm)}, fine_tune / "state_dict.bin")
    return hf, fine_tune


def test_a_fine_tune_takes_shape_codec_and_text_encoder_from_its_base_model(both):
    hf, fine_tune = both
    assert_same_model(open_engine(hf), open_engine(fine_tune, base_model=str(hf)))


def test_a_fine_tune_without_base_model_takes_its_shape_from_xp_cfg(both, tmp_path, monkeypatch):
    hf, fine_tune = both
    audiocraft = audiocraft_codec(load_file(hf / "model.safetensors"))
    seanet = {"dimension": 16, "n_filters": 4, "ratios": [8, 5, 4, 4], "pad_mode": "reflect"}
    codec_cfg = {"sample_rate": 32_000, "seanet": seanet, "rvq": {"n_q": 4, "bins": 64}}
    torch_files.save(
        {"best_state": audiocraft, "xp.cfg": json.dumps(codec_cfg)},
        fine_tune / "compression_state_dict.bin",
    )
    # xp.cfg names t5-base, and the toy's text encoder is narrower.
    with pytest.raises(CheckpointError, match=r"enc_to_dec_proj.*shape"):
        open_checkpoint(str(fine_tune))
    monkeypatch.setitem(HIDDEN_DIMS_OF_T5, "t5-base", 32)
    engine, whole = open_engine(fine_tune), open_engine(hf)
    np.testing.assert_array_equal(logits(engine), logits(whole))
    for ours, theirs in zip(codec_copy(engine), codec_copy(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_musicgens_own_codec_file_only_names_a_codec(both, tmp_path, monkeypatch):
    hf, fine_tune = both
    torch_files.save(
        {"pretrained": "facebook/encodec_32khz"}, fine_tune / "compression_state_dict.bin"
    )
    assert_same_model(open_engine(hf), open_engine(fine_tune, base_model=str(hf)))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_fine_tunes_are_read(toy, tmp_path, dtype):
    state = audiocraft_lm(load_file(toy / "model.safetensors"))
    halved = {name: array.astype(dtype) for name, array in state.items()}
    torch_files.save({"best_state": halved, "xp.cfg": "{}"}, tmp_path / "state_dict.bin")
    engine = open_engine(tmp_path, base_model=str(toy))
    assert np.abs(logits(engine) - logits(open_engine(toy))).max() < 0.2


def test_qkv_are_split_without_reading_them(toy):
    from segue.checkpoints.tensors import of_arrays

    stacked = np.arange(12.0).reshape(6, 2)
    split = from_audiocraft(
        of_arrays({"transformer.layers.0.self_attn.in_proj_weight": stacked}, Path("x"))
    )
    assert [tensor.shape for tensor in split.values()] == [(2, 2)] * 3
    names = [f"decoder.model.decoder.layers.0.self_attn.{x}_proj.weight" for x in "qkv"]
    np.testing.assert_array_equal(np.concatenate([split.take(n) for n in names]), stacked)


# --- The codec's layouts ------------------------------------------------------------------------


def mlx_codec(folder, target):
    """Write the codec of a checkpoint in the layout of `mlx-community/encodec-32khz-float32`."""
    weights = load_file(folder / "model.safetensors")
    out = {}
    for name, array in weights.items():
        if not name.startswith("audio_encoder."):
            continue
        name = name.removeprefix("audio_encoder.")
        if match := re.fullmatch(r"(.*\.lstm)\.(weight|bias)_(ih|hh)_l(\d)", name):
            base, kind, which, layer = match.groups()
            if kind == "weight":
                out[f"{base}.{layer}.{'Wx' if which == 'ih' else 'Wh'}"] = array
            elif which == "ih":
                other = weights[f"audio_encoder.{base}.bias_hh_l{layer}"]
                out[f"{base}.{layer}.bias"] = array + other
        elif name.endswith("conv.weight"):
            transposed = re.fullmatch(r"decoder\.layers\.(3|6|9|12)\.conv\.weight", name)
            out[name] = np.ascontiguousarray(
                array.transpose(1, 2, 0) if transposed else array.transpose(0, 2, 1)
            )
        else:
            out[name] = array
    target.mkdir(parents=True)
    save_file(out, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(CONFIG["audio_encoder"]))


def cached(cache, repository):
    """The folder in which the Hugging Face cache keeps a repository's one commit."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    return folder / "snapshots" / "c0ffee"


def test_companions_come_from_the_cache(both, tmp_path, monkeypatch):
    """A fine-tune and a base model's configuration, nothing else: the plugin's usual case."""
    hf, fine_tune = both
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    mlx_codec(hf, cached(cache, "mlx-community/encodec-32khz-float32"))
    base = cached(cache, "facebook/toy")
    base.mkdir(parents=True)
    shutil.copy(hf / "config.json", base)
    engine = open_engine(fine_tune, base_model="facebook/toy")
    whole = open_engine(hf)
    for ours, theirs in zip(codec_copy(engine), codec_copy(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(CheckpointError, match="t5-base is not in the cache"):
        engine.condition("drums")
    text = cached(cache, "t5-base")
    text.mkdir(parents=True)
    weights = load_file(hf / "model.safetensors")
    prefix = "text_encoder."
    save_file(
        {n.removeprefix(prefix): a for n, a in weights.items() if n.startswith(prefix)}
        | {"decoder.final_layer_norm.weight": np.ones(32, np.float32)},
        text / "model.safetensors",
    )
    (text / "config.json").write_text(json.dumps(CONFIG["text_encoder"]))
    shutil.copy(hf / "tokenizer.json", text)
    np.testing.assert_array_equal(logits(engine, "drums fast"), logits(whole, "drums fast"))


@pytest.mark.parametrize(
    ("g", "v"),
    [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
)
def test_weight_norm_is_folded(toy, copy, g, v):
    weights = load_file(copy / "model.safetensors")
    normed = {}
    for name, array in weights.items():
        if name.startswith("audio_encoder.") and name.endswith(".conv.weight"):
            base = name.removesuffix("weight")
            norm = np.sqrt(np.square(array).sum(axis=(1, 2), keepdims=True))
            normed[base + g], normed[base + v] = norm, 3 * array
        else:
            normed[name] = array
    save_file(normed, copy / "model.safetensors")
    assert_same_model(open_engine(toy), open_engine(copy))


# --- Shards, torch files, quantized -------------------------------------------------------------


def test_shards_are_read_through_their_index(toy, copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for n in range(3):
        shard = f"model-{n + 1:05}-of-00003.safetensors"
        save_file({name: weights[name] for name in names[n::3]}, copy / shard)
        weight_map |= dict.fromkeys(names[n::3], shard)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same_model(open_engine(toy), open_engine(copy))
    (copy / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors.*missing"):
        open_checkpoint(str(copy))


def test_older_checkpoints_are_torch_files(toy, copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch_files.save(weights, copy / "pytorch_model.bin")
    assert_same_model(open_engine(toy), open_engine(copy))


@pytest.mark.parametrize(("bits", "group_size", "mode"), [(4, 64, "affine"), (4, 32, "mxfp4")])
def test_a_quantized_checkpoint_runs_as_it_lies(copy, bits, group_size, mode):
    """segue's own layout: packed weights by module, and what they are in `config.json`."""
    weights = load_file(copy / "model.safetensors")
    plain = dict(weights)
    packed: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        if re.search(
            r"layers\.\d+\.(self_attn|encoder_attn)\..*_proj|\.fc[12]|lm_heads", name
        ) and (name.startswith("decoder")):
            module = name.removesuffix(".weight")
            parts = mx.quantize(mx.array(array), group_size, bits, mode)
            kinds = ("weight", "scales", "biases")
            packed |= {f"{module}.{k}": np.array(p) for k, p in zip(kinds, parts, strict=False)}
            whole = mx.dequantize(*parts, group_size=group_size, bits=bits, mode=mode)
            plain[name] = np.array(whole.astype(mx.float32))
        else:
            packed[name] = array
    reference = copy.parent / "dequantized"
    shutil.copytree(copy, reference)
    save_file(plain, reference / "model.safetensors")
    save_file(packed, copy / "model.safetensors")
    edit_config(copy, quantization={"bits": bits, "group_size": group_size, "mode": mode})
    ours, theirs = logits(open_engine(copy), "drums"), logits(open_engine(reference), "drums")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


# --- What is wrong, in one line -----------------------------------------------------------------


def refusal(folder, **options):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(folder), **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def resave(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_a_missing_tensor_is_named(copy):
    name = "decoder.model.decoder.layers.1.fc2.weight"
    resave(copy, lambda weights: weights.pop(name))
    assert name in refusal(copy)
    assert "missing" in refusal(copy)


def test_a_wrong_shape_is_named_with_the_file(copy):
    name = "audio_encoder.decoder.layers.0.conv.weight"
    resave(copy, lambda weights: weights.update({name: np.zeros((3, 16, 7), np.float32)}))
    line = refusal(copy)
    assert "model.safetensors" in line
    assert "decoder.layers.0.conv.weight" in line
    assert "(3, 16, 7)" in line
    assert "(64, 16, 7)" in line


def test_a_tensor_with_no_place_is_named(copy):
    resave(
        copy, lambda w: w.update({"decoder.model.decoder.layers.0.fc1.bias": np.zeros(128, "f4")})
    )
    assert "fc1.bias" in refusal(copy)


def test_a_file_cut_short_is_named(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "model.safetensors" in refusal(copy)
    path.write_bytes(b"")
    assert "model.safetensors" in refusal(copy)
    path.unlink()
    assert "the download was not finished" in refusal(copy)


def test_an_empty_folder_is_refused_with_the_files_that_are_needed(tmp_path):
    assert "state_dict.bin" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"model_type": "llama"}, "not MusicGen"),
        ({"audio_encoder": {"model_type": "dac"}}, "EnCodec"),
        ({"audio_encoder": {"audio_channels": 2}}, "mono"),
        ({"audio_encoder": {"norm_type": "time_group_norm"}}, "48 kHz"),
        ({"text_encoder": {"model_type": "bert"}}, "T5"),
        ({"decoder": {"num_attention_heads": 5}}, "divide"),
        ({"decoder": {"num_codebooks": 8}}, "belong together"),
        ({"decoder": {"activation_function": "relu"}}, "gelu"),
    ],
)
def test_a_configuration_that_segue_does_not_run_is_refused(copy, parts, words):
    edit_config(copy, **parts)
    line = refusal(copy)
    assert words in line
    assert "config.json" in line


def test_a_configuration_that_is_no_json_is_refused(copy):
    (copy / "config.json").write_text("{")
    assert "not JSON" in refusal(copy)
    (copy / "config.json").write_text('{"model_type": "musicgen", "decoder": {}}')
    assert "lacks" in refusal(copy)


def test_a_fine_tune_without_a_shape_needs_a_base_model(toy, tmp_path):
    state = audiocraft_lm(load_file(toy / "model.safetensors"))
    torch_files.save({"best_state": state}, tmp_path / "state_dict.bin")
    assert "--base-model" in refusal(tmp_path)
    for text in ("- a list", "{", "transformer_lm: {dim: 64}", "transformer_lm: 3"):
        torch_files.save({"best_state": state, "xp.cfg": text}, tmp_path / "state_dict.bin")
        assert "--base-model" in refusal(tmp_path)


def test_a_torch_file_without_a_model_is_refused(tmp_path):
    torch_files.save({"optimizer": {}}, tmp_path / "state_dict.bin")
    assert "best_state" in refusal(tmp_path)


def test_the_pattern_of_an_audiocraft_checkpoint_counts():
    lm = CONFIG["decoder"] | {"num_codebooks": 4}
    delays = {"modeling": "delay", "delay": {"delays": [0, 0, 1, 1]}}
    assert _lm(xp_cfg(lm, codebooks_pattern=delays)).delays == (0, 0, 1, 1)
    assert _lm(xp_cfg(lm)).delays == (0, 1, 2, 3)
    stereo = lm | {"audio_channels": 2, "num_codebooks": 8}
    assert _lm(xp_cfg(stereo)).delays == (0, 0, 1, 1, 2, 2, 3, 3)
    with pytest.raises(CheckpointError, match="parallel"):
        _lm(xp_cfg(lm, codebooks_pattern={"modeling": "parallel"}))


def _lm(text):
    return LMConfig.from_xp_cfg(json.loads(text))


# --- What an export of AudioCraft says -----------------------------------------------------------


def audiocraft_codec(weights):
    """The codec of a Hugging Face checkpoint under AudioCraft's names."""
    return {
        n.replace(".layers.", ".vq.layers.", 1).replace(".codebook.", "._codebook.")
        if n.startswith("quantizer")
        else n.replace(".layers.", ".model.", 1).replace(".conv.", ".conv.conv."): a
        for name, a in weights.items()
        if name.startswith("audio_encoder.")
        for n in [name.removeprefix("audio_encoder.")]
    }


TOY_SIZES = {"dim": 64, "num_heads": 4, "num_layers": 2, "hidden_scale": 2, "n_q": 4, "card": 64}


def exported_lm(**changes):
    """A language model's `xp.cfg` as AudioCraft exports it, of the toy's size."""
    lm = XP_LM["transformer_lm"] | TOY_SIZES
    return yaml.safe_dump(XP_LM | {"transformer_lm": lm} | changes)


def exported_codec(**seanet):
    toy = {"dimension": 16, "n_filters": 4, "pad_mode": "reflect"}
    return yaml.safe_dump(
        XP_CODEC
        | {"seanet": XP_CODEC["seanet"] | toy | seanet, "rvq": XP_CODEC["rvq"] | {"bins": 64}}
    )


@pytest.fixture
def export(toy, tmp_path, monkeypatch):
    """A fine-tune and its codec as `audiocraft.utils.export` writes them."""
    monkeypatch.setitem(HIDDEN_DIMS_OF_T5, "t5-base", 32)
    weights = load_file(toy / "model.safetensors")

    def write(lm=None, codec=None, state=None, **package):
        folder = tmp_path / "export"
        folder.mkdir(exist_ok=True)
        state = audiocraft_lm(weights) if state is None else state
        content = {"best_state": state, "xp.cfg": lm or exported_lm(), "exported": True} | package
        torch_files.save(content, folder / "state_dict.bin")
        torch_files.save(
            {"best_state": audiocraft_codec(weights), "xp.cfg": codec or exported_codec()},
            folder / "compression_state_dict.bin",
        )
        return folder

    return write


def test_an_export_with_unresolved_references_sounds_like_the_same_weights_elsewhere(toy, export):
    """`causal: ${encodec.causal}` is false; read as a text, it made the codec causal."""
    engine, whole = open_engine(export()), open_engine(toy)
    np.testing.assert_array_equal(logits(engine), logits(whole))
    for ours, theirs in zip(codec_copy(engine), codec_copy(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert engine.config.codec.causal is False


def test_a_codec_that_its_export_calls_causal_is_causal(export):
    checkpoint = open_checkpoint(str(export(codec=exported_codec(causal=True))))
    assert checkpoint.config.codec.causal is True


def test_a_refusal_names_the_file_the_field_and_the_value(export):
    for key, value in (("positional_embedding", "rope"), ("norm_first", False)):
        lm = XP_LM["transformer_lm"] | TOY_SIZES | {key: value}
        line = refusal(export(lm=exported_lm(transformer_lm=lm)))
        assert f"state_dict.bin: xp.cfg: transformer_lm.{key} is {value!r}" in line
        assert "--base-model" not in line  # which would not help
    line = refusal(export(codec=exported_codec(pad_mode="replicate")))
    assert "compression_state_dict.bin: xp.cfg: seanet.pad_mode is 'replicate'" in line


def test_what_a_fine_tune_was_trained_as_is_looked_at_with_a_base_model_too(toy, export):
    """The base model's configuration says nothing of what was changed in training."""
    lm = XP_LM["transformer_lm"] | TOY_SIZES | {"positional_embedding": "sin_rope"}
    assert "sin_rope" in refusal(export(lm=exported_lm(transformer_lm=lm)), base_model=str(toy))
    heads = export(
        lm=exported_lm(transformer_lm=XP_LM["transformer_lm"] | TOY_SIZES | {"num_heads": 8})
    )
    assert open_checkpoint(str(heads), base_model=str(toy)).config.lm.num_heads == 8
    shutil.copy(toy / "config.json", heads)
    assert open_checkpoint(str(heads)).config.lm.num_heads == 8


def test_a_codec_of_another_rate_is_not_put_beside_a_model(export):
    line = refusal(export(lm=exported_lm(sample_rate=16_000)))
    assert "sample_rate is 16000" in line
    assert "state_dict.bin" in line


@pytest.mark.parametrize("codec", ["dac_44khz", "//pretrained/dac_44khz", "/etc/codec", "../codec"])
def test_a_model_of_another_codec_is_not_decoded_with_musicgens(toy, export, codec):
    folder = export()
    torch_files.save({"pretrained": codec}, folder / "compression_state_dict.bin")
    line = refusal(folder, base_model=str(toy))
    assert codec in line
    assert "compression_state_dict.bin" in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("condition_provider.conditioners.self_wav.output_proj.weight", "self_wav"),
        ("condition_provider.conditioners.description.embed.weight", "description"),
        ("transformer.layers.0.layer_scale_1.scale", "no place"),
        ("transformer.layers.0.self_attn.q_layer_norm.weight", "no place"),
    ],
)
def test_tensors_that_would_change_the_music_are_not_passed_over(toy, export, name, words):
    state = audiocraft_lm(load_file(toy / "model.safetensors"))
    line = refusal(export(state=state | {name: np.ones(64, np.float32)}))
    assert words in line
    assert "state_dict.bin" in line


# --- What a model was wrapped in ----------------------------------------------------------------

WRAPPED = {
    "DataParallel": lambda n: f"module.{n}",
    "Lightning": lambda n: f"model.{n}",
    "both": lambda n: f"model.module.{n}",
    "an attribute": lambda n: f"lm.{n}",
    "compiled": lambda n: f"_orig_mod.{n}",
    "FSDP": lambda n: f"_fsdp_wrapped_module.{n}".replace(
        "self_attn", "_fsdp_wrapped_module.self_attn"
    ),
    "torch's attention": lambda n: n.replace("_attn.", "_attn.mha.").replace(
        "cross_attention.", "cross_attention.mha."
    ),
    "Fabric": lambda n: f"_forward_module.{n}",
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_prefixes_of_training_are_read(toy, export, wrapper):
    plain = audiocraft_lm(load_file(toy / "model.safetensors"))
    state = {WRAPPED[wrapper](name): array for name, array in plain.items()}
    expected = logits(open_engine(toy))
    np.testing.assert_array_equal(logits(open_engine(export(state=state))), expected)


def test_a_state_dict_by_itself_and_lightnings_are_read(toy, tmp_path):
    plain = audiocraft_lm(load_file(toy / "model.safetensors"))
    lightning = {
        "state_dict": {f"model.{n}": a for n, a in plain.items()},
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
    }
    expected = logits(open_engine(toy))
    for content in (plain, lightning):
        torch_files.save(content, tmp_path / "state_dict.bin")
        engine = open_engine(tmp_path, base_model=str(toy))
        np.testing.assert_array_equal(logits(engine), expected)


@pytest.mark.parametrize("wrapper", [w for w in WRAPPED if w != "torch's attention"])
def test_prefixes_are_read_in_the_hugging_face_layout_too(toy, copy, wrapper):
    resave(copy, lambda w: [w.update({WRAPPED[wrapper](n): w.pop(n)}) for n in list(w)])
    assert_same_model(open_engine(toy), open_engine(copy))


def test_a_tensor_that_is_there_twice_is_named(copy):
    name = "enc_to_dec_proj.bias"
    resave(copy, lambda w: w.update({f"_orig_mod.{name}": w[name]}))
    assert f"{name!r} is there twice" in refusal(copy)


# --- What is no checkpoint ----------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1234\n"
PAGE = b"\n<!DOCTYPE html><html><head><title>Log in</title>"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize(("content", "words"), [(POINTER, "git lfs pull"), (PAGE, "web page")])
def test_a_pointer_or_a_page_in_a_file_s_place_is_reported(copy, file, content, words):
    (copy / file).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(copy)).text()
    assert str(caught.value).startswith(f"{copy / file}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
def test_a_pointer_in_audiocrafts_layout_is_reported(export, file):
    folder = export()
    (folder / file).write_bytes(POINTER)
    assert "git lfs pull" in refusal(folder)
    assert file in refusal(folder)


def test_an_adapter_says_how_to_name_it(copy, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    content = {"base_model_name_or_path": "facebook/musicgen-small"}
    (adapter / "adapter_config.json").write_text(json.dumps(content))
    line = refusal(adapter)
    assert "--adapter" in line
    assert "facebook/musicgen-small" in line
    # Beside a whole model, too: without the adapter it would play something else.
    shutil.copy(adapter / "adapter_config.json", copy)
    assert "--adapter" in refusal(copy)


def test_a_folder_of_the_cache_says_what_to_name(tmp_path):
    cached(tmp_path, "owner/na--me").mkdir(parents=True)
    assert "name 'owner/na--me'" in refusal(tmp_path / "models--owner--na--me")
    assert "segue models" in refusal(tmp_path)


# --- What may not be read -----------------------------------------------------------------------


@contextmanager
def nobody():
    """As a user who owns nothing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable(copy):
    """A copy whose way there everybody may go, as that of a shared disk."""
    if os.geteuid() == 0:
        for folder in (copy, *copy.parents):
            if folder.stat().st_mode & 0o001 == 0:
                folder.chmod(0o755)
        for file in copy.iterdir():  # safetensors writes for its owner alone
            file.chmod(0o644)
    return copy


@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "state_dict.bin", "."]
)
def test_missing_permissions_are_reported_as_such(readable, file):
    if file == "state_dict.bin":
        (readable / "model.safetensors").unlink()
        (readable / file).write_bytes(b"PK")
    path = readable / file
    path.chmod(0)
    try:
        with nobody(), pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(readable)).text()
    finally:
        path.chmod(0o755)
    line = str(caught.value)
    assert line == f"{path}: cannot be read (Permission denied): check path and permissions"


def test_a_folder_behind_a_closed_one_is_not_called_missing(readable):
    readable.parent.chmod(0)
    try:
        with nobody(), pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(readable))
    finally:
        readable.parent.chmod(0o755)
    assert "Permission denied" in str(caught.value)
    assert str(readable) in str(caught.value)


# --- Every error names its file, once -----------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("decoder", {"activation_function": "relu"}),
        ("audio_encoder", {"pad_mode": "replicate"}),
        ("audio_encoder", {"chunk_length_s": 1.0}),
        ("text_encoder", {"model_type": "bert"}),
        ("decoder", {"vocab_size": 2048}),
    ],
)
def test_an_error_of_a_configuration_names_its_path_once(copy, part, changes):
    edit_config(copy, **{part: changes})
    line = refusal(copy)
    assert line.count(str(copy)) == 1
    assert line.startswith(f"{copy / 'config.json'}: ")


@pytest.mark.parametrize("content", ["{", "[1]", "", '{"decoder": ' + "[" * 100_000])
def test_what_is_no_table_names_its_path_once(copy, content):
    (copy / "config.json").write_text(content)
    assert refusal(copy).count(str(copy)) == 1
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    assert refusal(copy).count(str(copy)) == 1


def test_the_companions_errors_name_their_own_files(both, tmp_path, monkeypatch):
    hf, fine_tune = both
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    codec = cached(cache, "mlx-community/encodec-32khz-float32")
    mlx_codec(hf, codec)
    base = cached(cache, "facebook/toy")
    base.mkdir(parents=True)
    shutil.copy(hf / "config.json", base)
    config = CONFIG["audio_encoder"] | {"normalize": True}
    (codec / "config.json").write_text(json.dumps(config))
    assert refusal(fine_tune, base_model="facebook/toy").startswith(f"{codec / 'config.json'}: ")
    (codec / "config.json").write_text(json.dumps(CONFIG["audio_encoder"]))
    text = cached(cache, "t5-base")
    text.mkdir(parents=True)
    shutil.copy(hf / "model.safetensors", text)
    shutil.copy(hf / "tokenizer.json", text)
    (text / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": "wide"}))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(fine_tune), base_model="facebook/toy").text()
    assert str(caught.value).startswith(f"{text / 'config.json'}: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decoder.layers.0.conv.weight", np.float32(0)),
        ("encoder.layers.0.conv.weight_v", np.ones((4, 1, 7), np.float32)),
    ],
)
def test_a_tensor_of_a_shape_that_makes_no_sense_is_one_line(copy, old, new):
    extra = {"audio_encoder.encoder.layers.0.conv.weight_g": np.ones(3, np.float32)}
    resave(copy, lambda w: w.update({f"audio_encoder.{old}": np.asarray(new)} | extra))
    assert "model.safetensors" in refusal(copy)


# --- Memory -------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
import mlx.core as mx
from segue.checkpoints.opening import open_checkpoint
from segue.engine.mlx import MLXEngine
name, base = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else None)
mx.eval(mx.zeros(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine = MLXEngine(open_checkpoint(name, base))
engine.read_weights()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint that dwarfs everything else in a process."""
    config = json.loads(json.dumps(CONFIG))
    config["decoder"] |= {"hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 10}
    return write_checkpoint(tmp_path_factory.mktemp("large"), config=config)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
@pytest.mark.parametrize("layout", ["Hugging Face", "AudioCraft"])
def test_loading_never_holds_a_checkpoint_twice(tmp_path, large, layout):
    """At most 1.3 times its size."""
    hf = large
    arguments = [str(hf)]
    size = (hf / "model.safetensors").stat().st_size
    if layout == "AudioCraft":
        state = audiocraft_lm(load_file(hf / "model.safetensors"))
        target = tmp_path / "fine-tune"
        target.mkdir()
        torch_files.save({"best_state": state, "xp.cfg": "{}"}, target / "state_dict.bin")
        arguments = [str(target), str(hf)]
        size = (target / "state_dict.bin").stat().st_size
    assert size > 350e6
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 1.3 * size


def test_the_shapes_of_the_plugins_models_are_what_they_are_known_to_be():
    """MusicGen small in full: 420 million weights in the language model."""
    from segue.checkpoints.layouts import lm_shapes

    config = json.loads(json.dumps(CONFIG))
    config["decoder"] |= {
        "hidden_size": 1024,
        "ffn_dim": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 2048,
    }
    config["audio_encoder"] |= {"codebook_size": 2048, "target_bandwidths": [2.2]}
    lm = ModelConfig.from_hf(config).lm
    total = sum(int(np.prod(shape)) for shape in lm_shapes(lm, 768).values())
    assert 420e6 < total < 421e6
