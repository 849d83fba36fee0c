"""AudioCraft's layout: what a fine-tune was trained with is what it is played with.

What its `xp.cfg` may say is walked in `config/test_fields.py`; here it is opened.
"""

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from segue.checkpoints.audiocraft import companions
from segue.checkpoints.config import HIDDEN_DIMS_OF_T5
from segue.checkpoints.opening import open_checkpoint
from segue.demo.toy import CONFIG, write_checkpoint
from segue.engine.mlx import MLXEngine
from segue.errors import BaseModelRequiredError, CheckpointError
from tests.checkpoints import torch_files
from tests.checkpoints.published_configs import XP_CODEC, XP_LM, changed
from tests.checkpoints.test_opening import audiocraft_codec, audiocraft_lm, cached

SIZES = {"dim": 64, "num_heads": 4, "num_layers": 2, "hidden_scale": 2, "n_q": 4, "card": 64}
TOY_LM = XP_LM | {"transformer_lm": XP_LM["transformer_lm"] | SIZES}
SEANET = {"dimension": 16, "n_filters": 4, "pad_mode": "reflect"}
TOY_CODEC = XP_CODEC | {
    "seanet": XP_CODEC["seanet"] | SEANET,
    "rvq": XP_CODEC["rvq"] | {"bins": 64},
}
T5 = ("conditioners", "description", "t5")


@pytest.fixture
def weights(toy):
    return load_file(toy / "model.safetensors")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An offline cache, which `cached` fills; T5's widths are the toy's."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in HIDDEN_DIMS_OF_T5:
        monkeypatch.setitem(HIDDEN_DIMS_OF_T5, name, 32)
    return tmp_path / "hub"


@pytest.fixture
def tune(tmp_path, weights, hub):
    """Write a fine-tune with its codec; return its folder."""

    def write(config=TOY_LM, state=None, codec=TOY_CODEC, name="state_dict.bin", **package):
        folder = tmp_path / "tune"
        folder.mkdir(exist_ok=True)
        state = audiocraft_lm(weights) if state is None else state
        content = package or {"best_state": state, "xp.cfg": yaml.safe_dump(config)}
        torch_files.save(content, folder / name)
        if isinstance(codec, str):
            content = {"pretrained": codec, "exported": True}
        else:
            content = {"best_state": audiocraft_codec(weights), "xp.cfg": yaml.safe_dump(codec)}
        if codec is not None:
            torch_files.save(content, folder / "compression_state_dict.bin")
        return folder

    return write


def text_encoder(folder, seed, gated=False, whole=True):
    """A T5 as a repository has it, or its configuration and tokenizer alone; its weights."""
    kind = {"feed_forward_proj": "gated-gelu" if gated else "relu"}
    config = CONFIG | {"text_encoder": CONFIG["text_encoder"] | kind}
    write_checkpoint(folder, seed, config=config)
    prefix = "text_encoder."
    state = {
        name.removeprefix(prefix): array
        for name, array in load_file(folder / "model.safetensors").items()
        if name.startswith(prefix)
    }
    (folder / "model.safetensors").unlink()
    if whole:
        save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config["text_encoder"]))
    return state


def logits(folder, text="drums fast", **options):
    engine = MLXEngine(open_checkpoint(str(folder), **options))
    sequence = np.random.default_rng(0).integers(0, 65, (4, 9)).astype(np.int32)
    return engine.logits(sequence, engine.condition(text) if text else None)


def in_hugging_face(toy, folder, t5, gated=False):
    """The toy with another text encoder, in the Hugging Face layout."""
    shutil.copytree(toy, folder)
    rest = load_file(toy / "model.safetensors")
    rest = {name: array for name, array in rest.items() if not name.startswith("text_encoder.")}
    save_file(
        rest | {f"text_encoder.{name}": array for name, array in t5.items()},
        folder / "model.safetensors",
    )
    kind = {"feed_forward_proj": "gated-gelu" if gated else "relu"}
    config = CONFIG | {"text_encoder": CONFIG["text_encoder"] | kind}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# --- The text encoder ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["t5-small", "t5-large", "t5-3b", "google/flan-t5-base", "google/flan-t5-large"]
)
def test_the_text_encoder_is_the_one_that_it_was_trained_with(tmp_path, toy, hub, tune, name):
    gated = "flan" in name
    state = text_encoder(cached(hub, name), seed=5, gated=gated)
    text_encoder(cached(hub, "t5-base"), seed=6)
    folder = tune(changed(TOY_LM, (*T5, "name"), name))
    whole = in_hugging_face(toy, tmp_path / "whole", state, gated)
    np.testing.assert_array_equal(logits(folder), logits(whole))
    assert companions(folder / "state_dict.bin") == (name, ())


def test_a_base_model_with_another_text_encoder_does_not_lend_it(tmp_path, toy, hub, tune):
    """Both have one width; only the feed-forwards tell Flan's from T5's."""
    name = "google/flan-t5-base"
    state = text_encoder(cached(hub, name), seed=5, gated=True)
    folder = tune(changed(TOY_LM, (*T5, "name"), name))
    whole = in_hugging_face(toy, tmp_path / "whole", state, gated=True)
    np.testing.assert_array_equal(logits(folder, base_model=str(toy)), logits(whole))


def test_flan_is_not_asked_for_without_text(toy, tune):
    folder = tune(changed(TOY_LM, (*T5, "name"), "google/flan-t5-base"))
    np.testing.assert_array_equal(logits(folder, text=None), logits(toy, text=None))


@pytest.mark.parametrize("with_base", [False, True])
def test_a_text_encoder_that_was_trained_along_is_played(tmp_path, toy, hub, tune, with_base):
    name = "condition_provider.conditioners.description.t5."
    trained = text_encoder(tmp_path / "trained", seed=7)
    if not with_base:
        text_encoder(cached(hub, "t5-base"), seed=6, whole=False)
    tied = trained | {"encoder.embed_tokens.weight": trained["shared.weight"]}
    state = audiocraft_lm(load_file(toy / "model.safetensors"))
    state |= {f"{name}{key}": array for key, array in tied.items()}
    folder = tune(changed(TOY_LM, (*T5, "finetune"), True), state)
    whole = in_hugging_face(toy, tmp_path / "whole", trained)
    options = {"base_model": str(toy)} if with_base else {}
    np.testing.assert_array_equal(logits(folder, **options), logits(whole))
    assert np.abs(logits(folder, **options) - logits(toy)).max() > 0.1


def test_a_text_encoder_that_was_trained_along_must_be_there(tune):
    folder = tune(changed(TOY_LM, (*T5, "finetune"), True))
    with pytest.raises(CheckpointError, match=r"state_dict\.bin.*t5\.finetune is true.*lacks"):
        open_checkpoint(str(folder))


def test_the_conditioner_may_have_another_name(toy, hub, tune, weights):
    text_encoder(cached(hub, "t5-base"), seed=0)
    state = {n.replace(".description.", ".words."): a for n, a in audiocraft_lm(weights).items()}
    config = changed(TOY_LM, ("conditioners",), {"words": TOY_LM["conditioners"]["description"]})
    folder = tune(changed(config, ("fuser", "cross"), ["words"]), state)
    np.testing.assert_array_equal(logits(folder), logits(toy))
    folder = tune(best_state=state)
    np.testing.assert_array_equal(logits(folder, base_model=str(toy)), logits(toy))


# --- The codec ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["file", "xp.cfg"])
def test_a_named_codec_comes_first(toy, hub, tune, tmp_path, by):
    """Before that of the base model; with more codebooks than the model speaks."""
    other = {"sampling_rate": 24_000, "upsampling_ratios": [8, 5, 4, 2], "target_bandwidths": [3.6]}
    config = CONFIG | {"audio_encoder": CONFIG["audio_encoder"] | other}
    whole = write_checkpoint(tmp_path / "whole", 3, config=config)
    codec = cached(hub, "facebook/encodec_24khz")
    codec.mkdir(parents=True)
    prefix = "audio_encoder."
    state = load_file(whole / "model.safetensors")
    save_file(
        {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)},
        codec / "model.safetensors",
    )
    (codec / "config.json").write_text(json.dumps(config["audio_encoder"]))
    named = "//pretrained/facebook/encodec_24khz"
    lm = changed(TOY_LM, ("compression_model_checkpoint",), named if by == "xp.cfg" else "x.th")
    folder = tune(changed(lm, ("sample_rate",), 24_000), codec=named if by == "file" else None)
    engine = MLXEngine(open_checkpoint(str(folder), base_model=str(toy)))
    reference = MLXEngine(open_checkpoint(str(whole)))
    assert engine.config.codec.num_codebooks == 8
    samples = np.random.default_rng(0).standard_normal((4800, 1)).astype(np.float32)
    codes = engine.encode(samples)
    np.testing.assert_array_equal(codes, reference.encode(samples))
    np.testing.assert_array_equal(engine.decode(codes), reference.decode(codes))
    assert companions(folder / "state_dict.bin")[1] == ("facebook/encodec_24khz",)


def test_the_codec_beside_it_comes_before_all_names(toy, tune):
    folder = tune(changed(TOY_LM, ("compression_model_checkpoint",), "//pretrained/dac_44khz"))
    engine, whole = (MLXEngine(open_checkpoint(str(f))) for f in (folder, toy))
    samples = np.random.default_rng(0).standard_normal((6400, 1)).astype(np.float32)
    np.testing.assert_array_equal(engine.encode(samples), whole.encode(samples))


# --- The base model -----------------------------------------------------------------------------


def test_the_base_model_may_have_audiocrafts_layout(toy, hub, tune, weights, tmp_path):
    """Its `xp.cfg` says how large it is, and its codec is the one that it was trained with."""
    text_encoder(cached(hub, "t5-base"), seed=0)
    base = tmp_path / "base"
    tune(changed(TOY_LM, ("dataset", "segment_duration"), 10)).rename(base)
    folder = tune(best_state=audiocraft_lm(weights), codec=None)
    with pytest.raises(BaseModelRequiredError):
        open_checkpoint(str(folder))
    checkpoint = open_checkpoint(str(folder), base_model=str(base))
    assert checkpoint.config.lm.window_frames == 500
    np.testing.assert_array_equal(logits(folder, base_model=str(base)), logits(toy))
    with_shape = tune(TOY_LM, codec=None)
    engine, whole = (
        MLXEngine(open_checkpoint(str(with_shape), str(base))),
        MLXEngine(open_checkpoint(str(toy))),
    )
    samples = np.random.default_rng(0).standard_normal((6400, 1)).astype(np.float32)
    np.testing.assert_array_equal(engine.encode(samples), whole.encode(samples))


def test_of_a_base_model_whose_weights_are_not_here_the_kind_of_text_encoder_counts(
    tmp_path, toy, hub, tune, weights
):
    """Flan's has the width of T5's: only the configuration tells that it is another."""
    name = "google/flan-t5-small"  # the first of this width, in this test
    state = text_encoder(cached(hub, name), seed=5, gated=True)
    text_encoder(cached(hub, "t5-small"), seed=6)
    text_encoder(cached(hub, "t5-base"), seed=6)
    whole = in_hugging_face(toy, tmp_path / "whole", state, gated=True)
    base = tmp_path / "base"
    base.mkdir()
    shutil.copy(whole / "config.json", base)
    folder = tune(best_state=audiocraft_lm(weights))
    np.testing.assert_array_equal(logits(folder, base_model=str(base)), logits(whole))
    config = json.loads((base / "config.json").read_text())
    config["text_encoder"]["num_layers"] += 1
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"not the text encoder that the base model's"):
        logits(folder, base_model=str(base))


# --- The window ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "frames"), [(30, 1500), (10, 500), (12.345, 617), (40, 2000)])
def test_the_window_is_that_of_the_training(tune, seconds, frames):
    folder = tune(changed(TOY_LM, ("dataset", "segment_duration"), seconds))
    assert open_checkpoint(str(folder)).config.lm.window_frames == frames


# --- Training checkpoints -----------------------------------------------------------------------


def omegaconf(value):
    """`value` as omegaconf 2.3 pickles it: objects with metadata around every table and number."""

    def node(kind, key, content):
        metadata = torch_files.Object(
            torch_files.Global("omegaconf.base", "ContainerMetadata"),
            {"ref_type": torch_files.Global("typing", "Any"), "optional": True},
        )
        return torch_files.Object(
            torch_files.Global(*kind.rsplit(".", 1)),
            {"_metadata": metadata, "_parent": None, key: content},
        )

    if isinstance(value, dict):
        content = {key: omegaconf(item) for key, item in value.items()}
        return node("omegaconf.dictconfig.DictConfig", "_content", content)
    if isinstance(value, list):
        return node("omegaconf.listconfig.ListConfig", "_content", [omegaconf(v) for v in value])
    return node("omegaconf.nodes.AnyNode", "_val", value)


PLACES = {
    "best": lambda state, junk: {"best_state": {"model": state}, "model": junk},
    "FSDP's": lambda state, junk: {
        "best_state": {"model": junk},
        "fsdp_best_state": {"model": state},
    },
    "averages": lambda state, junk: {
        "best_state": {},
        "ema": {"state": {"model": state}, "count": 3},
        "model": junk,
    },
    "newest": lambda state, junk: {"best_state": {}, "ema": None, "model": state},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_training_checkpoint_is_played_as_it_would_be_exported(toy, tune, weights, place):
    state = audiocraft_lm(weights)
    junk = {name: array + 1 for name, array in state.items()}
    package = PLACES[place](state, junk)
    package |= {"xp.cfg": omegaconf(TOY_LM), "xp.sig": "0123abcd", "history": [{"train": {"a": 1}}]}
    folder = tune(name="checkpoint.th", **package)
    np.testing.assert_array_equal(logits(folder, text=None), logits(toy, text=None))
    config = open_checkpoint(str(folder)).config
    assert (config.lm.num_heads, config.lm.window_frames) == (4, 1500)


def test_a_training_checkpoint_is_refused_for_what_it_says(tune, weights):
    lm = changed(TOY_LM, ("transformer_lm", "positional_embedding"), "rope")
    state = {"model": audiocraft_lm(weights)}
    folder = tune(name="checkpoint.th", **{"best_state": state, "xp.cfg": omegaconf(lm)})
    with pytest.raises(CheckpointError, match=r"checkpoint\.th: xp\.cfg: .*'rope'"):
        open_checkpoint(str(folder))
