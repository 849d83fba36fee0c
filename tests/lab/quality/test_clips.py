"""What music is measured on: files, folders, windows."""

import numpy as np
import pytest

from segue import audio
from segue.demo.prompt import band
from segue.errors import AudioError
from segue.lab.quality import clips
from segue.lab.quality.clips import Clip, find_clips, windows


def write(path, seconds=2.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, band(seconds))
    return path


def test_without_prompts_there_is_segue_s_own_music(model):
    for clip in find_clips([]):
        assert clip.samples(model.config).seconds >= 4


def test_folders_are_searched_to_their_bottom_and_files_taken_as_they_are(tmp_path):
    write(tmp_path / "set" / "b.WAV")
    write(tmp_path / "set" / "deep" / "a.flac")
    write(tmp_path / "set" / "._b.wav")
    (tmp_path / "set" / "notes.txt").write_text("no music")
    alone = write(tmp_path / "x.wav").rename(tmp_path / "alone")
    found = [clip.path for clip in find_clips([alone, tmp_path / "set"])]
    assert found == [alone, tmp_path / "set" / "b.WAV", tmp_path / "set" / "deep" / "a.flac"]


@pytest.mark.parametrize("stereo", [False, True])
def test_a_clip_has_the_model_s_rate_and_channels(tmp_path, model, stereo_model, stereo):
    config = (stereo_model if stereo else model).config
    path = write(tmp_path / "x.wav", 2.0)
    clip = Clip("x", path, 1.5).samples(config)
    assert clip.samples.shape == (48_000, 2 if stereo else 1)
    assert clip.sample_rate == 32_000
    assert clip.samples.dtype == np.float32


def test_many_files_share_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "SECONDS_IN_ALL", 3.0)
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    assert [clip.seconds for clip in find_clips([tmp_path])] == [1.5, 1.5]


def test_a_clip_that_cannot_be_used_is_one_line(tmp_path, model):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio in this folder"):
        find_clips([tmp_path / "empty"])
    bad = {"no such file": tmp_path / "none.wav"}
    bad["cannot be read as audio"] = tmp_path / "text.wav"
    bad["cannot be read as audio"].write_text("not music")
    bad["too short"] = write(tmp_path / "short.wav", 0.5)
    bad["no sound"] = tmp_path / "nan.wav"
    nothing = np.full((64_000, 1), np.nan, np.float32)
    audio.write(bad["no sound"], audio.Audio(nothing, 32_000, "FLOAT"))
    for words, path in bad.items():
        with pytest.raises(AudioError, match=words) as caught:
            [clip.samples(model.config) for clip in find_clips([path])]
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MAX_FILES", 1)
    with pytest.raises(AudioError, match="name 1 at most"):
        find_clips([write(tmp_path / "a.wav"), write(tmp_path / "b.wav")])


@pytest.mark.parametrize("seconds", [1, 29.99, 30, 30.02, 31, 60, 89.98, 120])
def test_windows_are_few_alike_and_never_too_long(seconds):
    samples = np.arange(round(seconds * 32_000))[:, None]
    pieces = windows(samples, 640)
    frames = [len(piece) / 640 for piece in pieces]
    assert len(pieces) == -(-(len(samples) // 640) // 1500)
    assert max(frames) <= 1500
    assert max(frames) - min(frames) <= 1
    joined = np.concatenate(pieces)
    np.testing.assert_array_equal(joined, samples[: len(samples) // 640 * 640])
