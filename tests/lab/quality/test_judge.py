"""The forty pieces: codes that say themselves whose they are, with words of their own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segue import audio, cli
from segue.checkpoints import hub
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.prompt import band
from segue.errors import RequestError
from segue.lab.quality import judge
from segue.lab.quality.clips import find_clips
from segue.lab.quality.measure import measure
from segue.lab.quality.request import QualityRequest
from segue.lab.variant import BASELINE, Variant

needs_built_in = pytest.mark.skipif(
    hub.built_in_folder() is None, reason="no checkpoint is built in"
)
SHORT: dict[str, Any] = {
    "takes": 1,
    "continuation_seconds": 0.1,
    "engine": "mlx",
    "prompt_seconds": 1,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def few(monkeypatch, toy):
    """Two pieces of 1.6 s for the toy, and no prompts as sound but a second of music by rule."""
    size = open_checkpoint(str(toy)).config.lm.cardinality
    found = [replace(piece, codes=piece.codes[:, :80] % size) for piece in judge.pieces()[:2]]
    monkeypatch.setattr(judge, "pieces", lambda: found)
    monkeypatch.setattr(judge, "judged_by", lambda _: True)
    clips = [replace(find_clips(())[0], seconds=1.0)]
    monkeypatch.setattr("segue.lab.quality.request.find_clips", lambda _: clips)
    return found


def measured(variant, **options):
    return measure(QualityRequest(variant=variant, **SHORT | options)).to_json()


def test_there_are_forty_pieces_of_ten_seconds_with_words():
    found = judge.pieces()
    assert len(found) == len({piece.codes.tobytes() for piece in found}) == 40
    for piece in found:
        assert piece.codes.shape == (4, 500)
        assert 0 <= piece.codes.min() < piece.codes.max() < 2048
        assert len(np.unique(piece.codes[3])) > 50
        assert len(piece.text.split(", ")) >= 3


@needs_built_in
def test_pieces_judge_the_codec_that_they_are_codes_of(toy, tmp_path):
    checkpoint = open_checkpoint(hub.BUILT_IN)
    assert judge.judged_by(checkpoint)
    saved = save_quantized(checkpoint, Recipe(), tmp_path / "q4").folder
    assert judge.judged_by(open_checkpoint(str(saved)))
    other = open_checkpoint(str(toy))
    assert not judge.judged_by(other)
    assert judge.pieces_for(other, None, prompts=False) == []
    with pytest.raises(RequestError, match=r"has another; name music with --quality-prompt"):
        judge.pieces_for(other, "full", prompts=False)


@needs_built_in
def test_small_and_prompts_leave_the_pieces_alone():
    checkpoint = open_checkpoint(hub.BUILT_IN)
    assert judge.pieces_for(checkpoint, "small", prompts=False) == []
    assert judge.pieces_for(checkpoint, None, prompts=True) == []
    assert len(judge.pieces_for(checkpoint, None, prompts=False)) == 40


def bits(count):
    return Variant(f"q{count}", None, Recipe("decoder-linears", count, 32))


def test_pieces_are_measured_without_text_with_it_and_guided(few, toy):
    same, q8, q4 = (measured(each, model=str(toy)) for each in (BASELINE, bits(8), bits(4)))
    assert q4["judge"] == "full"
    assert [prompt["name"] for prompt in q4["prompts"]] == ["piece 01", "piece 02"]
    assert q4["prompts"][0]["text"] == few[0].text
    assert q4["tokens"]["counted"] == 2 * 40 * 4
    for condition in ("text", "guided"):
        kl = [found["conditions"][condition]["kl"]["overall"]["mean"] for found in (same, q8, q4)]
        assert kl[0] == 0
        assert 0 < 10 * kl[1] < kl[2]
        assert kl[2] != q4["kl"]["overall"]["mean"]
        total = sum(q4["blocks"][condition]) / q4["tokens"]["counted"]
        assert total == pytest.approx(kl[2])


def test_a_text_for_all_takes_the_place_of_their_own(few, toy):
    found = measured(bits(4), model=str(toy), text="drums")
    assert found["conditions"] == {}
    assert found["judge"] == "full"


@pytest.mark.slow
def test_words_beside_a_file_describe_it(toy, tmp_path):
    for name in ("one", "two"):
        audio.write(tmp_path / f"{name}.wav", band(2.0))
    (tmp_path / "two.txt").write_text("piano\n and drums\n")
    found = measured(bits(4), model=str(toy), prompts=[tmp_path])
    assert [prompt.get("text") for prompt in found["prompts"]] == [None, "piano and drums"]
    assert found["judge"] == "prompts"
    assert found["conditions"]["text"]["kl"]["overall"]["mean"] > 0
    assert "text" not in found["blocks"]  # not every prompt has words: not the same blocks


# --- A checkpoint of its own ----------------------------------------------------------------------


@pytest.fixture
def folder(toy, tmp_path):
    recipe = Recipe("decoder-linears", 4, 32)
    return save_quantized(open_checkpoint(str(toy)), recipe, tmp_path / "toy q4").folder


@pytest.mark.slow
def test_what_was_quantized_before_is_measured_like_its_recipe(toy, folder, tmp_path, capsys):
    audio.write(tmp_path / "band.wav", band(2.0))
    options = ["quality", str(toy), "--quality-prompt", str(tmp_path / "band.wav"), "--seed", "7"]
    options += ["--engine", "mlx", "--takes", "1", "--continuation-seconds", "0.2"]
    report = tmp_path / "recipe.json"
    recipe = ["--quantize", "--q-group-size", "32", "--method", "nearest"]
    recipe += ["--report-json", str(report)]
    assert cli.main([*options, *recipe]) == 0
    capsys.readouterr()
    assert cli.main([*options, "--variant", str(folder), "--compare", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "toy-q4 beside baseline" in printed
    assert "KL less q4-g32-decoder-linears's: +0 (+0 – +0) nats" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cast-dtype", "float16"), "runs as it is"),
        (("--quantize",), "runs as it is"),
        (("--recipe", "q4"), "drop one"),
    ],
)
def test_a_checkpoint_of_its_own_is_not_changed(toy, folder, capsys, options, words):
    assert cli.main(["quality", str(toy), "--variant", str(folder), *options]) == 2
    assert words in capsys.readouterr().err


def test_a_checkpoint_of_another_shape_is_refused(toy_stereo, folder):
    with pytest.raises(RequestError, match="has another shape"):
        measured(Variant.of_checkpoint(str(folder)), model=str(toy_stereo))
