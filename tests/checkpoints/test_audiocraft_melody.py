"""Melody models in AudioCraft's layout: the same as in the Hugging Face layout."""

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from segue.checkpoints.config import HIDDEN_DIMS_OF_T5
from segue.checkpoints.hugging_face import save_hugging_face
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.engine.mlx import MLXEngine
from segue.errors import BaseModelRequiredError, CheckpointError
from tests.checkpoints import torch_files
from tests.checkpoints.published_configs import XP_MELODY, changed
from tests.checkpoints.test_audiocraft import SIZES, TOY_CODEC
from tests.checkpoints.test_opening import audiocraft_codec, audiocraft_lm

MELODY = "condition_provider.conditioners.self_wav."
WINDOW = f"{MELODY}chroma.spec.window"
CHROMA = ("conditioners", "self_wav", "chroma_stem")
TOY_MELODY = XP_MELODY | {
    "transformer_lm": XP_MELODY["transformer_lm"] | SIZES,
    "dataset": {"segment_duration": 3},  # of which 24 frames come
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("melody"), config=MELODY_CONFIG)


@pytest.fixture
def tune(tmp_path, whole, monkeypatch):
    """Write a fine-tune of `whole` in AudioCraft's layout; return its folder."""
    monkeypatch.setitem(HIDDEN_DIMS_OF_T5, "t5-base", 32)
    weights = load_file(whole / "model.safetensors")

    def write(config=TOY_MELODY, more=None):
        folder = tmp_path / "tune"
        folder.mkdir(exist_ok=True)
        state = audiocraft_lm(weights)
        state |= {WINDOW: np.hanning(16_385)[:-1].astype(np.float32)} | (more or {})
        package = {"best_state": state}
        if config is not None:
            package["xp.cfg"] = yaml.safe_dump(config)
        torch_files.save(package, folder / "state_dict.bin")
        codec = {"best_state": audiocraft_codec(weights), "xp.cfg": yaml.safe_dump(TOY_CODEC)}
        torch_files.save(codec, folder / "compression_state_dict.bin")
        return folder

    return write


def logits(folder, text="", **options):
    """Logits with a melody of two notes."""
    engine = MLXEngine(open_checkpoint(str(folder), **options))
    sequence = np.random.default_rng(0).integers(0, 65, (4, 9)).astype(np.int32)
    time = np.arange(40_000)[:, None] / 32_000
    notes = np.sin(2 * np.pi * np.where(time < 0.6, 440, 523) * time).astype(np.float32)
    return engine.logits(sequence, engine.condition(text, notes))


def test_it_is_the_same_model_as_in_the_other_layout(whole, tune):
    folder = tune()
    np.testing.assert_array_equal(logits(folder), logits(whole))
    assert open_checkpoint(str(folder)).config.lm.melody.frames == 24
    with_text = {"base_model": str(whole), "text": "drums fast"}
    np.testing.assert_array_equal(logits(folder, **with_text), logits(whole, "drums fast"))


@pytest.mark.parametrize("text", ["", "drums fast"])
def test_without_a_configuration_the_base_model_says_it(whole, tune, text):
    folder = tune(config=None)
    found = logits(folder, base_model=str(whole), text=text)
    np.testing.assert_array_equal(found, logits(whole, text))


def test_what_is_missing_or_does_not_fit_is_said_in_one_line(toy, tune):
    with pytest.raises(BaseModelRequiredError, match=r"melodies; pass --base-model facebook"):
        open_checkpoint(str(tune(config=None)))
    with pytest.raises(CheckpointError, match=r"melodies \(self_wav\), which its configuration"):
        open_checkpoint(str(tune(config=None)), base_model=str(toy))


@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("with_config", [False, True])
def test_musicgen_style_is_called_by_its_name(whole, tune, with_base, with_config):
    """Its melody projection has MusicGen melody's name."""
    config = None
    if with_config:
        style = {"model": "style", "style": {"model_name": "mert"}}
        config = changed(TOY_MELODY, ("conditioners", "self_wav"), style)
    more = {f"{MELODY}embed.weight": np.zeros((512, 768), np.float32)}
    base = str(whole) if with_base else None
    with pytest.raises(CheckpointError, match=r"MusicGen Style.*MERT.*facebook/musicgen-melody"):
        open_checkpoint(str(tune(config, more)), base)


def test_its_spectra_are_kept_by_what_segue_writes(whole, tune, tmp_path):
    """Other spectra than MusicGen's change what is heard, in the layouts that are written too."""
    config = changed(TOY_MELODY, CHROMA, TOY_MELODY["conditioners"]["self_wav"]["chroma_stem"])
    for name, value in {"radix2_exp": 12, "argmax": False, "norm": 2.0}.items():
        config = changed(config, (*CHROMA, name), value)
    folder = tune(config)
    expected = logits(folder, base_model=str(whole))
    assert np.abs(expected - logits(whole)).max() > 1e-3
    save_hugging_face(open_checkpoint(str(folder), base_model=str(whole)), tmp_path / "hf")
    save_quantized(
        open_checkpoint(str(folder), base_model=str(whole)),
        Recipe(bits=8, group_size=32),
        tmp_path / "q8",
    )
    np.testing.assert_allclose(logits(tmp_path / "hf"), expected, atol=1e-5)
    assert np.abs(logits(tmp_path / "q8") - expected).max() < 0.1
    written = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert written["feature_extractor_type"] == "MusicgenMelodyFeatureExtractor"
    assert (written["n_fft"], written["hop_length"]) == (4096, 1024)


# --- The Hugging Face layout --------------------------------------------------------------------


def extractor(**fields):
    return {"feature_extractor_type": "MusicgenMelodyFeatureExtractor"} | fields


def test_the_feature_extractor_says_how_long_spectra_are(whole, tmp_path):
    """What transformers' processor would make of the melody, by its own file."""
    folder = tmp_path / "other"
    shutil.copytree(whole, folder)
    file = folder / "preprocessor_config.json"
    usual = {"n_fft": 16_384, "hop_length": 4096, "num_chroma": 12, "sampling_rate": 32_000}
    file.write_text(json.dumps(extractor(**usual)))
    np.testing.assert_array_equal(logits(folder), logits(whole))
    file.write_text(json.dumps(extractor(n_fft=8192, hop_length=1000)))
    melody = open_checkpoint(str(folder)).config.lm.melody
    assert (melody.spectrum, melody.window, melody.hop) == (8192, 8192, 1000)
    for wrong in ({"num_chroma": 24}, {"sampling_rate": 16_000}, {"n_fft": "long"}):
        file.write_text(json.dumps(extractor(**wrong)))
        with pytest.raises(
            CheckpointError, match=rf"preprocessor_config.json: {next(iter(wrong))}"
        ):
            open_checkpoint(str(folder))
