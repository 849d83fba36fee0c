"""Music without a prompt: `segue generate`, and the library's `Model.generate`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import segue
from segue.cli import main
from segue.continuation import Request, continue_audio
from segue.errors import AudioError, RequestError
from segue.stream import stream


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def model(toy):
    return segue.load(str(toy))


def test_a_description_becomes_a_file(toy, capsys):
    options = ["--text", "drums fast", "--output-seconds", "1.5", "--seed", "4", "--json"]
    assert main(["generate", "--model", str(toy), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    info = soundfile.info("generated.wav")
    assert (info.frames, info.samplerate, info.channels) == (48_000, 32_000, 1)
    assert report["prompt_seconds"] == report["join_sample"] == 0
    assert report["guided"]
    assert "prompt_encode_s" not in report["timings_s"]


def test_the_next_one_has_a_name_of_its_own(toy, capsys):
    words = ["generate", "--model", str(toy), "--output-seconds", "0.5", "--seed", "1"]
    assert main(words) == main([*words, "--variations", "2"]) == 0
    files = {path.name for path in Path().iterdir()}
    assert files == {"generated.wav", "generated-1.wav", "generated-2.wav"}
    assert "0.5 s played by " in capsys.readouterr().out


def test_a_seed_is_one_result_alone_or_in_a_batch(model):
    alone = model.generate(text="piano", output_seconds=1, seed=8).takes[0]
    both = model.generate(text="piano", output_seconds=1, seed=7, variations=2).takes
    assert np.array_equal(alone.codes, both[1].codes)
    assert not np.array_equal(alone.codes, both[0].codes)
    assert not np.array_equal(alone.codes, model.generate(output_seconds=1, seed=8).takes[0].codes)


def test_a_stereo_model_gives_stereo(toy_stereo):
    take = segue.load(str(toy_stereo)).generate(output_seconds=0.5, seed=1).takes[0]
    assert take.audio.samples.shape == (16_000, 2)


def test_longer_than_a_window_and_in_a_stream(model):
    take = model.generate(output_seconds=31, seed=1, top_k=1).takes[0]
    assert take.audio.seconds == 31
    request = Request.without_prompt(44_100, 2, output_seconds=3, seed=1)
    chunks = list(stream(model.engine, request))
    assert sum(map(len, chunks)) == 3 * 44_100
    assert chunks[0].shape[1] == 2


def test_what_is_no_music_without_a_prompt(model):
    with pytest.raises(RequestError, match="less than one frame"):
        model.generate(output_seconds=0.001)
    empty = segue.Audio(np.zeros((0, 1), np.float32), 32_000)
    with pytest.raises(AudioError, match="too short"):  # a prompt was meant
        continue_audio(model.engine, Request(empty))
    some = segue.Audio(np.zeros((32_000, 1), np.float32), 32_000)
    with pytest.raises(RequestError, match="more than 0"):
        Request(some, prompt_seconds=0)


def test_bad_input_is_one_line(toy, capsys):
    assert main(["generate", "--model", str(toy), "--output-seconds", "0"]) == 2
    assert main(["generate", "--model", str(toy), "-o", "music.xyz"]) == 2
    assert main(["generate", "--model", str(toy), "--prompt-seconds", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert not list(Path().iterdir())
