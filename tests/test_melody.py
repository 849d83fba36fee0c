"""Melody models: what they follow, on the command line and in the library."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import segue
from segue.checkpoints.config import MelodyConfig
from segue.checkpoints.hugging_face import save_hugging_face
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.cli import main
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.engine.chroma import chroma, features, silence
from segue.errors import AudioError, RequestError

RATE, USUAL = 32_000, MelodyConfig()


def tone(*midi, seconds=1.0):
    """Notes one after the other, by their MIDI numbers."""
    time = np.arange(round(RATE * seconds)) / RATE
    notes = [0.3 * np.sin(2 * np.pi * 440 * 2 ** ((n - 69) / 12) * time) for n in midi]
    return segue.Audio(np.concatenate(notes)[:, None].astype(np.float32), RATE)


def classes(samples):
    return chroma(samples, RATE, USUAL).argmax(axis=1)


@pytest.fixture(scope="module")
def toy_melody(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("melody"), config=MELODY_CONFIG)


@pytest.fixture(scope="module")
def melody_model(toy_melody):
    return segue.load(str(toy_melody))


# --- What is heard of a melody -------------------------------------------------------------------


@pytest.mark.parametrize("octave", [36, 48, 60, 72])
def test_a_note_is_its_pitch_class_in_any_octave(octave):
    for pitch_class in range(12):
        assert (classes(tone(octave + pitch_class).samples) == pitch_class).all()


def test_frames_follow_the_notes_and_channels_are_mixed():
    melody = tone(60, 64, 67).samples
    heard = classes(np.repeat(melody, 2, axis=1))
    assert len(heard) == 1 + len(melody) // USUAL.hop
    middle = [heard[round(second * RATE / USUAL.hop)] for second in (0.5, 1.5, 2.5)]
    assert middle == [0, 4, 7]
    fitted = features(melody, RATE, MelodyConfig(frames=40)).argmax(axis=1)
    assert np.array_equal(fitted[len(heard) :], heard[: 40 - len(heard)])


def test_silence_and_very_short_melodies():
    nothing = np.zeros((RATE, 1), np.float32)
    assert not classes(nothing).any()
    for config in (USUAL, MelodyConfig(strongest=False, norm=2.0)):
        assert np.array_equal(features(nothing, RATE, config), silence(config))
    assert len(classes(np.ones((1, 1), np.float32))) == 1 + USUAL.spectrum // USUAL.hop


def test_all_pitch_classes_are_normalised_where_the_strongest_is_not_taken_alone():
    two = tone(60).samples + 0.5 * tone(67).samples
    for order in (1.0, 2.0, np.inf):
        found = chroma(two, RATE, MelodyConfig(strongest=False, norm=order))
        assert np.allclose(np.linalg.norm(found, order, axis=1), 1, atol=1e-5)
        assert (np.argsort(found, axis=1)[:, -2:] == [7, 0]).all()


# --- The model -----------------------------------------------------------------------------------


def codes(model, **options):
    return model.generate(output_seconds=1, seed=3, **options).takes[0].codes


def test_a_melody_counts_and_so_does_the_text(melody_model):
    found = [
        codes(melody_model),
        codes(melody_model, text="piano"),
        codes(melody_model, melody=tone(60, 64)),
        codes(melody_model, melody=tone(62, 66)),
        codes(melody_model, melody=tone(60, 64), text="piano"),
    ]
    assert len({each.tobytes() for each in found}) == len(found)
    assert np.array_equal(found[2], codes(melody_model, melody=tone(72, 76)))  # an octave up


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_a_take_alone_is_that_of_a_batch_after_a_prompt(toy_melody, engine):
    model = segue.load(str(toy_melody), engine=engine)
    prompt = np.random.default_rng(0).normal(0, 0.1, RATE)

    def takes(seed, variations):
        return model.continue_audio(
            prompt,
            RATE,
            prompt_seconds=0.5,
            output_seconds=1.5,
            melody=tone(60),
            text="drums",
            seed=seed,
            variations=variations,
        ).takes

    assert np.array_equal(takes(8, 1)[0].codes, takes(7, 2)[1].codes)


def test_engines_agree(toy_melody):
    pytest.importorskip("openvino")
    one, other = (
        codes(segue.load(str(toy_melody), engine=engine), melody=tone(60, 67), top_k=1)
        for engine in ("mlx", "openvino")
    )
    assert np.array_equal(one, other)


def test_each_window_hears_its_own_part(melody_model):
    """A melody that changes after 18 s changes the second window, and the first no more."""
    long, other = tone(60, 64, seconds=18), tone(60, 67, seconds=18)
    one, two = (
        melody_model.generate(output_seconds=32, seed=1, melody=m).takes[0].codes
        for m in (long, other)
    )
    heard = MELODY_CONFIG["chroma_length"] * USUAL.hop / RATE
    assert heard < 18  # of each window, the model hears so much
    assert np.array_equal(one[:, :1500], two[:, :1500])
    assert not np.array_equal(one[:, 1500:], two[:, 1500:])


def test_beyond_the_window_a_short_melody_is_repeated_before_it_is_heard(tmp_path):
    """As AudioCraft does: by samples there, by frames within, and the two are not the same."""
    decoder = MELODY_CONFIG["decoder"] | {"window_frames": 50}
    model = segue.load(
        str(write_checkpoint(tmp_path / "short", config=MELODY_CONFIG | {"decoder": decoder}))
    )
    melody = tone(60, 64, seconds=0.35)
    one, two, three = (
        model.generate(output_seconds=s, melody=m, seed=1, top_k=1).takes[0].codes
        for s, m in ((1.0, melody), (1.01, melody), (1.01, tone(60, 64, 60, seconds=0.35)))
    )
    assert one.shape == two.shape == (4, 50)
    assert not np.array_equal(one, two)
    assert np.array_equal(two, three)  # of which 1 s is heard


def test_a_note_says_that_the_mix_is_followed(melody_model):
    result = melody_model.generate(output_seconds=0.2, melody=tone(60))
    assert [note for note in result.notes if "whole mix" in note and "Demucs" in note]
    assert not melody_model.generate(output_seconds=0.2, text="piano").notes


def test_quantized_and_in_transformers_layout(toy_melody, melody_model, tmp_path):
    recipe = Recipe(bits=8, group_size=32)
    save_quantized(open_checkpoint(str(toy_melody)), recipe, tmp_path / "q")
    save_hugging_face(open_checkpoint(str(toy_melody)), tmp_path / "hf")
    options = {"melody": tone(60, 64), "text": "bass"}
    in_memory = segue.load(str(toy_melody), recipe=recipe)
    assert np.array_equal(
        codes(segue.load(str(tmp_path / "q")), **options), codes(in_memory, **options)
    )
    assert np.array_equal(
        codes(segue.load(str(tmp_path / "hf")), **options), codes(melody_model, **options)
    )


# --- What cannot be ------------------------------------------------------------------------------


def test_other_models_follow_no_melody(model):
    with pytest.raises(RequestError, match="follows no melody"):
        codes(model, melody=tone(60))


def test_a_melody_that_is_no_sound(melody_model):
    for samples in (np.zeros((0, 1), np.float32), np.full((9, 1), np.nan, np.float32)):
        with pytest.raises(AudioError, match="melody"):
            codes(melody_model, melody=segue.Audio(samples, RATE))


def test_on_the_command_line(toy, toy_melody, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("tune.wav", tone(60, 64).samples, RATE)
    words = ["--output-seconds", "0.5", "--seed", "1", "--json"]
    follow = ["--melody", "tune.wav"]
    assert main(["generate", "--model", str(toy_melody), *follow, *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["melody"] == "tune.wav"
    assert report["guided"]
    assert main(["generate", "--model", str(toy), *follow, *words]) == 2
    assert main(["generate", "--model", str(toy_melody), "--melody", "no.wav", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert not Path("generated-2.wav").exists()
