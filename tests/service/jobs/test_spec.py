"""`JobSpec`: built and checked by a route, stored, and turned into a request by the worker."""

import json
import sqlite3
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile

from segue import Request, RequestError, audio
from segue.admission import MAX_SEED
from segue.checkpoints.recipe import Recipe
from segue.layout import plan_request
from segue.service.jobs.rows import Input
from segue.service.jobs.spec import PARAMETERS, RANDOM_SEEDS, JobSpec, choose_seed
from segue.service.jobs.store import Store
from segue.service.quantization import NONE, Quantization

Q8 = Quantization("q8_decoder_linears", Recipe("decoder-linears", 8), explicit=True)
RATE = 44_100
SPEC = JobSpec(
    kind="native",
    model="facebook/musicgen-small",
    quantization=Q8,
    start=2.5,
    prompt_seconds=3.5,
    output_seconds=20.0,
    text="a calm piano",
    top_k=100,
    temperature=0.9,
    guidance_coef=4.0,
    seed=7,
    variations=2,
    notes=("the audio: it was cut off",),
)
STORED = {
    "kind": "native",
    "model": "facebook/musicgen-small",
    "quantization": "q8_decoder_linears",
    "recipe": {"scope": "decoder-linears", "bits": 8, "group_size": 64, "mode": "affine"},
    "demanded": True,
    "request": {
        "prompt_seconds": 3.5,
        "output_seconds": 20.0,
        "text": "a calm piano",
        "top_k": 100,
        "temperature": 0.9,
        "guidance_coef": 4.0,
        "variations": 2,
        "seed": 7,
        "start": 2.5,
        "notes": ["the audio: it was cut off"],
    },
}
"""A row as every version so far wrote it."""


# --- As JSON --------------------------------------------------------------------------------------


def test_a_row_of_an_earlier_version_is_read_and_written_as_it_was():
    assert JobSpec.from_json(json.loads(json.dumps(STORED))) == SPEC
    written: dict[str, Any] = SPEC.to_json()
    new: dict[str, Any] = {"extend_stride": None, "top_p": 0.0, "texts": [], "adapters": []}
    new |= {"melody": None, "seconds": None, "bpm": None, "bars": None}
    new |= {"beats_per_bar": 4.0, "downbeat": 0.0, "prompt_bars": None, "snap": "bar"}
    new |= {"loop_crossfade": False, "parts": []}
    assert {name: written["request"].pop(name) for name in new} == new
    assert written == STORED
    plain = JobSpec("process", "built-in", seed=3)
    assert JobSpec.from_json(json.loads(json.dumps(plain.to_json()))) == plain


def test_a_row_without_the_keys_that_came_later_has_the_defaults():
    request = {"prompt_seconds": 6, "output_seconds": 30, "start": None, "seed": 1}
    old = {"kind": "continue", "model": "a", "quantization": "none", "request": request}
    spec = JobSpec.from_json(old | {"something": "that a later version adds"})
    assert spec == JobSpec("continue", "a", NONE, start=None, seed=1)


def test_a_store_of_an_earlier_version_goes_on(tmp_path):
    store = Store(tmp_path)
    name, path = store.new_input()
    path.touch()
    job = store.add(JobSpec("native", "built-in"), Input(name, RATE, 2, 1000, 0))
    store.close()
    with sqlite3.connect(tmp_path / "segue.db") as db:
        db.execute("UPDATE jobs SET asked = ? WHERE id = ?", (json.dumps(STORED), job.id))
    store = Store(tmp_path)
    (again,) = store.recover()
    assert again.spec == SPEC
    store.close()


# --- From a request -------------------------------------------------------------------------------


def test_what_a_client_leaves_open_has_the_defaults_of_its_route():
    assert JobSpec.build("process", "a", NONE, {"seed": 1}) == JobSpec("process", "a", seed=1)
    assert JobSpec.build("continue", "a", NONE, {"seed": 1}).start is None


def test_a_retry_has_what_it_leaves_open_from_the_earlier_job_but_for_the_seed():
    again = JobSpec.build("native", "b", NONE, {"top_k": 5, "seed": 8}, earlier=SPEC)
    changed = {"model", "quantization", "top_k", "seed"}
    for name in {*PARAMETERS, "kind", "notes"} - changed:
        assert getattr(again, name) == getattr(SPEC, name)
    assert (again.model, again.quantization, again.top_k, again.seed) == ("b", NONE, 5, 8)
    drawn = {JobSpec.build("native", "b", NONE, {}, earlier=SPEC).seed for _ in range(20)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"prompt_seconds": 6, "output_seconds": 6}, "the prompt of 6 s leaves nothing to play"),
        ({"seed": MAX_SEED, "variations": 2}, "seeds lie between 0 and 4294967295"),
        ({"text": "\ud800"}, "characters that are none"),
    ],
)
def test_what_needs_no_audio_is_checked_when_it_is_built(given, line):
    with pytest.raises(RequestError, match=line):
        JobSpec.build("native", "a", NONE, given)


def test_drawn_seeds_can_be_read_off_and_typed():
    drawn = {choose_seed(seed, 4, True) for seed in (None, -1, -2, -(10**20)) for _ in range(500)}
    assert 0 <= min(drawn) <= max(drawn) < RANDOM_SEEDS == 100_000
    assert len(drawn) > 1_900


@pytest.mark.parametrize(
    ("seed", "variations", "used"),
    [
        (0, 1, 0),
        (MAX_SEED, 1, MAX_SEED),
        (2**32, 1, 0),
        (99_999_999_999_999_999_999, 1, 99_999_999_999_999_999_999 % 2**32),
        (MAX_SEED, 2, MAX_SEED - 1),  # a native job of two takes, retried by the plugin
    ],
)
def test_the_plugin_s_seeds_are_reduced_to_what_every_take_can_use(seed, variations, used):
    assert choose_seed(seed, variations, True) == used
    assert choose_seed(seed, variations, False) == seed


# --- With the audio -------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [None, 0.0, 0.5, 1.9871, 2.4])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_the_worker_continues_what_was_planned(tmp_path, start, rate):
    frames = round(2.5 * rate)
    soundfile.write(tmp_path / "in.wav", np.zeros((frames, 1)), rate)
    spec = JobSpec("native", "a", start=start, prompt_seconds=1.013, output_seconds=3.0)
    request = spec.request(audio.read(tmp_path / "in.wav", spec.audio_seconds))
    span = spec.span(frames, rate)
    assert len(request.audio.samples) == span.frames
    assert (request.prompt_seconds, request.prompt_from) == (span.prompt_seconds, span.prompt_from)
    assert spec.plan(frames, rate).join <= span.frames


def test_a_request_has_every_parameter():
    silence = audio.from_array(np.zeros((8 * RATE, 2), np.float32), RATE)
    request = SPEC.request(silence)
    same = set(PARAMETERS) - {"start"}
    assert {name: getattr(request, name) for name in same} == {
        name: getattr(SPEC, name) for name in same
    }
    assert len(request.audio.samples) == 6 * RATE


def test_a_prompt_behind_the_audio_is_refused_by_both_ends():
    spec = JobSpec("native", "a", start=1.5)
    second = audio.from_array(np.zeros((RATE, 1), np.float32), RATE)
    for refused in (lambda: spec.plan(RATE, RATE), lambda: spec.request(second)):
        with pytest.raises(RequestError, match=r"cannot start at 1.5 s: the audio is 1 s long"):
            refused()


# --- Beats and bars -------------------------------------------------------------------------------


def test_a_job_in_bars_has_its_lengths_in_seconds_too():
    given = {"bpm": 93, "bars": 4, "prompt_bars": 2, "start": 1.5, "downbeat": 1.5, "seed": 1}
    spec = JobSpec.build("native", "built-in", NONE, given)
    bar = 240 / 93
    assert spec.prompt_seconds == pytest.approx(2 * bar)
    assert spec.output_seconds == pytest.approx(6 * bar)
    again = JobSpec.build("native", "built-in", NONE, {"bars": 8}, earlier=spec)
    assert again.output_seconds == pytest.approx(10 * bar)
    assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_job_in_bars_is_laid_out_as_its_request_is():
    given = {"bpm": 93, "bars": 4, "prompt_bars": 2, "start": 1.5, "downbeat": 1.5, "seed": 1}
    spec = JobSpec.build("native", "built-in", NONE, given)
    rate, bar = 44_100, 240 / 93
    laid_out = spec.plan(20 * rate, rate)
    assert laid_out.join == round((1.5 + 2 * bar) * rate)
    assert laid_out.stop - laid_out.loop == round(6 * bar * rate)
    request = spec.request(audio.Audio(np.zeros((20 * rate, 1), np.float32), rate))
    assert (request.bpm, request.bars, request.prompt_bars, request.downbeat) == (93, 4, 2, 1.5)
    assert len(request.audio.samples) == laid_out.join


@pytest.mark.parametrize("prompt", [{"prompt_bars": 1}, {"prompt_seconds": 3.3}])
def test_a_prompt_from_the_start_begins_with_the_first_bar(prompt):
    given = {"bpm": 120, "downbeat": 1.75, "bars": 1, "seed": 1} | prompt
    spec = JobSpec.build("native", "built-in", NONE, given)
    rate = 8_000
    sound = audio.Audio(np.ones((10 * rate, 1), np.float32), rate)
    request = spec.request(
        replace(sound, samples=sound.samples[: round(spec.audio_seconds * rate)])
    )
    whole = Request(sound, **{"prompt_from": "start", **given})
    for laid_out in (spec.plan(10 * rate, rate), plan_request(request)):
        assert (laid_out.first, laid_out.join) == (
            plan_request(whole).first,
            plan_request(whole).join,
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bars": 4}, "needs a tempo"),
        ({"bpm": 5}, "bpm must lie between"),
        ({"bpm": 20, "bars": 400}, "output-seconds"),
    ],
)
def test_bars_that_cannot_be_are_refused_before_the_job_is_accepted(given, words):
    with pytest.raises(RequestError, match=words):
        JobSpec.build("native", "built-in", NONE, given)
