"""The library's front door."""

from dataclasses import fields

import numpy as np
import pytest

import segue
from segue.continuation import RequestOptions
from segue.engine.native import library
from segue.errors import CheckpointError


def test_options_are_those_of_a_request():
    assert set(RequestOptions.__annotations__) == {f.name for f in fields(segue.Request)} - {
        "audio"
    }


def test_a_recipe_may_be_a_name(toy):
    by_name = segue.load(str(toy), recipe="q4-emb")
    assert by_name.engine.load_report.quantized
    by_value = segue.load(str(toy), recipe=segue.PRESETS["q4_decoder_linears_emb"])
    assert by_name.engine.load_report.quantized == by_value.engine.load_report.quantized
    assert not segue.load(str(toy), recipe="none").engine.load_report.quantized


def test_a_name_that_is_no_recipe_is_refused_with_those_there_are(toy):
    with pytest.raises(segue.RequestError, match="q8_decoder_linears"):
        segue.load(str(toy), recipe="q99")


@pytest.mark.parametrize("shape", [(2, 44_100), (1, 500), (70, 71)])
def test_samples_that_stand_on_their_side_are_refused(model, shape):
    with pytest.raises(segue.AudioError, match=r"pass samples\.T"):
        model.continue_audio(np.zeros(shape, np.float32), 44_100)


def test_a_model_that_is_not_there_is_told_before_anything_is_compiled(tmp_path, monkeypatch):
    def never():
        raise AssertionError("compiled")

    monkeypatch.setattr(library, "unavailable", never)
    with pytest.raises(CheckpointError):
        segue.load(str(tmp_path / "nothing"))
