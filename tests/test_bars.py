"""Beats and bars: what is laid out on them is exact to the sample, and loops."""

import itertools
from typing import Any

import numpy as np
import pytest

import segue
from segue import AudioError, Continuation, Request, RequestError, audio
from segue.bars import Grid, Timing
from segue.layout import plan
from segue.splice import CROSSFADE_SECONDS, close_loop
from segue.stream import stream

from .test_continuation import music

RATES = (11_025, 32_000, 44_100, 48_000, 96_000)


@pytest.fixture(scope="module")
def model(toy):
    return segue.load(str(toy), engine="mlx")


def laid_out(samples, rate, grid, **given):
    timing = Timing(
        grid, given.pop("bars", None), given.pop("prompt_bars", None), given.pop("snap", "bar")
    )
    usual: dict[str, Any] = {"prompt_seconds": 6.0, "output_seconds": 30.0, "prompt_from": "start"}
    return plan(samples, rate, timing=timing, **(usual | given))


# --- The layout -----------------------------------------------------------------------------------


def test_four_bars_at_93_bpm_are_ten_seconds_and_a_third():
    assert Grid(93).bar_seconds * 4 == pytest.approx(10.3226, abs=1e-4)
    found = laid_out(44_100 * 60, 44_100, Grid(93), bars=4, prompt_bars=4)
    assert found.join == round(44_100 * 16 * 60 / 93)
    assert found.stop == round(44_100 * 32 * 60 / 93) == 910_452


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("prompt_from", ["start", "end"])
def test_a_loop_is_whole_bars_to_the_sample_whatever_the_tempo(rate, prompt_from):
    tempos, metres, places = (93, 97.3, 120, 174), (4, 3, 3.5), (0.0, 0.123, 1.9)
    for bpm, beats, downbeat in itertools.product(tempos, metres, places):
        grid = Grid(bpm, beats, downbeat)
        samples = 30 * rate + 17
        found = laid_out(samples, rate, grid, bars=3, prompt_bars=2, prompt_from=prompt_from)
        assert found.stop - found.loop == round(5 * grid.bar_seconds * rate)
        assert abs(found.join - found.loop - 2 * grid.bar_seconds * rate) <= 1
        off = ((found.join / rate - downbeat) / grid.bar_seconds + 0.5) % 1 - 0.5
        assert abs(off * grid.bar_seconds * rate) <= 1.5
        assert 0 <= found.start - found.loop < rate / 50 + 1
        end = found.start + round(found.total_frames * rate / 50)
        assert found.stop <= end < found.stop + rate / 50 + 1
        assert found.first == (found.loop if prompt_from == "start" else 0)


def test_seconds_become_the_nearest_whole_bars():
    found = laid_out(44_100 * 60, 44_100, Grid(120))
    assert (found.join, found.stop) == (6 * 44_100, 30 * 44_100)
    found = laid_out(44_100 * 60, 44_100, Grid(93), seconds=12)
    assert found.join == round(2 * 44_100 * 240 / 93)
    assert found.stop == round(7 * 44_100 * 240 / 93)


def test_beats_snap_finer_and_off_not_at_all():
    grid = Grid(100, 4, 0.25)
    beat = laid_out(44_100 * 9, 44_100, grid, snap="beat", prompt_seconds=1.1)
    assert (beat.loop, beat.join) == (
        round(0.25 * 44_100),
        round(0.25 * 44_100) + round(1.2 * 44_100),
    )
    off = laid_out(44_100 * 9, 44_100, grid, snap="off", prompt_seconds=1.1, bars=0.5)
    assert (off.loop, off.join) == (0, round(1.1 * 44_100))
    assert off.stop == round((1.1 + 1.2) * 44_100)


def test_a_file_of_whole_bars_that_lost_its_last_sample_has_all_of_them():
    whole = round(4 * Grid(93).bar_seconds * 44_100)
    for samples in (whole - 20, whole, whole + 20):
        found = laid_out(samples, 44_100, Grid(93), bars=4, prompt_bars=4, prompt_from="end")
        assert found.join == min(samples, whole)
        assert found.stop - found.loop in (2 * whole, 2 * whole + 1)


def test_what_lies_outside_of_the_bars_is_said():
    start = laid_out(44_100 * 9, 44_100, Grid(120, 4, 0.5), bars=1)
    assert start.notes == ("the first 0.500 s, before the first bar, are left out",)
    end = laid_out(44_100 * 9, 44_100, Grid(120), bars=1, prompt_from="end")
    assert end.notes == ("the last 1.000 s, behind the last whole bar, are left out",)
    short = laid_out(44_100 * 3, 44_100, Grid(120), bars=1, prompt_bars=4)
    assert short.notes == ("the audio is shorter than asked for: the prompt is 2.000 s, 1 bars",)


def test_audio_without_a_whole_bar_is_refused_in_one_line():
    with pytest.raises(AudioError, match=r"holds no whole bar .* snap to a beat, or off"):
        laid_out(44_100, 44_100, Grid(60), bars=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bpm": 19.9}, "bpm must lie between 20 and 999"),
        ({"bpm": float("nan")}, "bpm must lie between 20 and 999"),
        ({"bpm": 120, "beats_per_bar": 0}, "beats-per-bar must be more than 0"),
        ({"bpm": 120, "bars": 0}, "bars must be more than 0"),
        ({"bpm": 120, "bars": float("inf")}, "bars must be more than 0"),
        ({"bpm": 120, "prompt_bars": -1}, "prompt-bars must be more than 0"),
        ({"bpm": 120, "downbeat": -0.1}, "downbeat must be 0 s or more"),
        ({"bpm": 120, "snap": "half"}, "snap is one of off, beat, bar"),
        ({"bars": 4}, "bars needs a tempo"),
        ({"prompt_bars": 4}, "prompt-bars needs a tempo"),
        ({"bpm": 120, "bars": 4, "seconds": 3}, "seconds and bars both say"),
        ({"seconds": 0}, "seconds must be more than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, words):
    with pytest.raises(RequestError) as error:
        Request(audio.from_array(music(), 32_000), **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_hour_is_the_most_in_bars_too():
    with pytest.raises(RequestError, match="at most 3600"):
        laid_out(44_100 * 60, 44_100, Grid(60), bars=1000)


# --- Takes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_from", ["start", "end"])
def test_a_take_is_whole_bars_and_keeps_what_was_given(model, prompt_from):
    samples = music(3.0, 44_100, 2)
    result = model.continue_audio(
        samples,
        44_100,
        bpm=187.3,
        prompt_bars=1,
        bars=0.5,
        downbeat=0.1,
        prompt_from=prompt_from,
        seed=1,
    )
    take, bar = result.takes[0].audio.samples, 240 / 187.3 * 44_100
    assert len(take) - result.loop == round(1.5 * bar)
    assert abs(result.join - result.loop - bar) <= 1
    begin = round(0.1 * 44_100) if prompt_from == "start" else 0
    assert np.array_equal(take[: result.join], samples[begin : begin + result.join])
    assert result.grid.bpm == 187.3
    assert np.isfinite(take).all()


def test_the_grid_of_a_result_is_that_of_its_own_samples(model):
    samples = music(3.0, 44_100)
    given = {"bpm": 240, "prompt_bars": 1, "bars": 1, "downbeat": 0.25, "seed": 1}
    start = model.continue_audio(samples, 44_100, **given)
    assert start.grid == Grid(240, 4, 0.0)
    end = model.continue_audio(samples, 44_100, **given, prompt_from="end")
    assert end.grid == Grid(240, 4, 0.25)


def test_bars_are_played_with_the_codes_that_seconds_are(model):
    samples = music(1.0)
    bars = model.continue_audio(samples, 32_000, bpm=240, prompt_bars=0.5, bars=0.5, seed=3)
    seconds = model.continue_audio(samples, 32_000, prompt_seconds=0.5, seconds=0.5, seed=3)
    assert np.array_equal(bars.takes[0].codes, seconds.takes[0].codes)
    assert np.array_equal(bars.takes[0].audio.samples, seconds.takes[0].audio.samples)


def test_music_without_a_prompt_is_whole_bars(model):
    result = model.generate(bpm=133, bars=1, seed=1)
    assert len(result.takes[0].audio.samples) == round(240 / 133 * 32_000)
    assert (result.loop, result.join) == (0, 0)


def test_a_stream_is_as_long_as_the_take(model):
    request = Request(
        audio.from_array(music(2.0, 44_100), 44_100), bpm=131, prompt_bars=0.5, bars=1, seed=1
    )
    chunks = list(stream(model.engine, request))
    continuation = Continuation(model.engine, request)
    assert sum(map(len, chunks)) == continuation.new_samples
    for _ in continuation.frames():
        pass
    result = continuation.result()
    assert continuation.new_samples == len(result.takes[0].audio.samples) - result.join


# --- The loop's end -------------------------------------------------------------------------------


def test_a_loop_that_is_faded_leads_back_without_a_step_and_keeps_what_was_given():
    rate = 44_100
    time = np.arange(rate) / rate
    tone = np.stack([np.sin(2 * np.pi * 220.3 * time), np.cos(2 * np.pi * 330.7 * time)], axis=1)
    closed = close_loop(tone, 1000, 30_000, rate)
    fade = round(CROSSFADE_SECONDS * rate)
    assert np.array_equal(closed[:-fade], tone[:-fade])
    usual = np.abs(np.diff(tone, axis=0)).max()
    assert np.abs(closed[-1] - closed[1000]).max() < 1.5 * usual
    assert np.abs(tone[-1] - tone[1000]).max() > 10 * usual


@pytest.mark.parametrize("new", [0, 1, 100])
def test_a_loop_is_faded_within_what_is_new(new):
    samples = music(1.0, 44_100)[:, None] if music(1.0, 44_100).ndim == 1 else music(1.0, 44_100)
    closed = close_loop(samples, 0, len(samples) - new, 44_100)
    assert closed.shape == samples.shape
    assert np.array_equal(closed[: len(samples) - new], samples[: len(samples) - new])


def test_a_take_is_faded_only_where_it_is_asked_for(model):
    given = {"bpm": 240, "prompt_bars": 0.5, "bars": 0.5, "seed": 3}
    plain = model.continue_audio(music(1.0), 32_000, **given).takes[0].audio.samples
    faded = model.continue_audio(music(1.0), 32_000, **given, loop_crossfade=True)
    samples, fade = faded.takes[0].audio.samples, round(CROSSFADE_SECONDS * 32_000)
    assert np.array_equal(samples[:-fade], plain[:-fade])
    assert not np.array_equal(samples[-fade:], plain[-fade:])
