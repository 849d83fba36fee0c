"""Calibration: the model's own takes and the user's music, a part of them held out."""

from typing import Any

import numpy as np
import pytest

from segue import audio
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.recipe import Calibration
from segue.demo.prompt import band
from segue.errors import AudioError
from segue.quantization import calibration
from segue.quantization.calibration import (
    CalibrationSet,
    TextCodes,
    collect,
    of_files,
    of_takes,
    self_takes,
)
from segue.quantization.takes_cache import Identity, identity_of


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.5)
    monkeypatch.setattr(calibration, "SHORTEST_SECONDS", 0.1)


def test_takes_are_the_models_own_half_of_them_with_words(model, short):
    found = of_takes(model.engine, 16, seed=3)
    assert (len(found.windows), len(found.held_out)) == (16, 2)
    assert sum(bool(window.text) for window in found.windows) == 8
    codes = np.stack([window.codes for window in found.windows])
    frames = round(0.5 * model.config.codec.frame_rate)
    assert codes.shape == (16, 4, frames)
    assert 0 <= codes.min() <= codes.max() < 64  # no special token among them
    assert len(np.unique(codes.reshape(16, -1), axis=0)) == 16
    assert [w.source for w in found.windows + found.held_out] == [
        f"take {3 + n}" for n in range(18)
    ]


def test_one_seed_gives_one_calibration(model, short):
    first, second = (of_takes(model.engine, 4, seed=1).digest for _ in range(2))
    assert first == second != of_takes(model.engine, 4, seed=2).digest


def test_takes_are_kept_and_made_anew_where_they_are_damaged_or_anothers(
    model, toy, short, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = identity_of(open_checkpoint(str(toy)), model.engine.name)
    loads = []

    def loaded():
        loads.append(1)
        return model.engine

    def takes(**changes):
        options: dict[str, Any] = {"takes": 8, "seed": 1, "identity": own} | changes
        return self_takes(loaded, **options)

    first, again = takes(), takes()
    assert len(loads) == 1
    assert (again.digest, again.sources) == (first.digest, first.sources)
    assert first.digest == of_takes(model.engine, 8, seed=1).digest
    for one, other in zip(first.held_out, again.held_out, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert (one.text, one.source) == (other.text, other.source)

    (entry,) = (tmp_path / "segue" / "takes").iterdir()
    entry.write_bytes(entry.read_bytes()[:-30])
    assert takes().digest == first.digest
    assert len(loads) == 2
    for changes in ({"seed": 2}, {"identity": Identity(own.engine, "another")}, {"identity": None}):
        takes(**changes)
    assert len(loads) == 5


def test_takes_that_cannot_be_kept_are_generated(model, short, tmp_path, monkeypatch):
    (tmp_path / "segue").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = self_takes(lambda: model.engine, 4, identity=Identity(model.engine.name, "one"))
    assert found.digest == of_takes(model.engine, 4).digest


def test_without_words_no_take_has_any(model, short):
    assert not any(window.text for window in of_takes(model.engine, 8, texts=()).windows)


def test_files_are_held_out_whole(model, tmp_path, short):
    for n in range(3):
        samples = band(1.7).samples * (1 - 0.2 * n)
        audio.write(tmp_path / f"{n}.wav", audio.Audio(samples, 44_100))
    (tmp_path / "0.txt").write_text("slow\npiano")
    found = of_files([str(tmp_path)], model.config, lambda: model.engine)
    assert {window.source[-5:] for window in found.windows} == {"0.wav", "2.wav"}
    assert {window.source[-5:] for window in found.held_out} == {"1.wav"}
    assert [window.text for window in found.windows] == ["slow piano"] * 3 + [""] * 3
    assert [source.get("held_out", False) for source in found.sources] == [False, True, False]


def test_files_and_takes_can_be_mixed(model, tmp_path, short):
    audio.write(tmp_path / "a.wav", band(1.0))
    choice = Calibration((str(tmp_path / "a.wav"),), self_takes=2)
    found = collect(choice, model.config, lambda: model.engine)
    assert len(found.windows) == 4
    assert len(found.sources) == 2


def test_the_digest_is_of_codes_and_words(model, short):
    found = of_takes(model.engine, 2)
    other = CalibrationSet(tuple(found.windows[::-1]))
    assert found.digest == CalibrationSet(found.windows, (), ({"file": "x"},)).digest
    assert found.digest != other.digest


def test_too_little_is_noted(model, short):
    found = of_takes(model.engine, 2)
    assert "2 windows" in found.note
    assert CalibrationSet(found.windows * 8).note is None


def test_what_is_no_music_is_refused(model, tmp_path):
    (tmp_path / "empty").mkdir()
    audio.write(tmp_path / "short.wav", band(0.5))
    for name in ("empty", "short.wav", "missing.wav"):
        with pytest.raises(AudioError, match=name):
            of_files([str(tmp_path / name)], model.config, lambda: model.engine)


def test_texts_are_encoded_as_engines_do(toy, model):
    encoder, tokenizer = model.engine.text_encoder
    expected = np.asarray(encoder(np.array(tokenizer.encode("drums bass").ids)))
    texts = TextCodes(open_checkpoint(str(toy)))
    np.testing.assert_allclose(texts.of("drums bass"), expected.reshape(-1, 32), atol=1e-5)
    assert texts.of("") is None
