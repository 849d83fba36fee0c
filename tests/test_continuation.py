import math
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile

import segue
from segue import AudioError, Continuation, Request, RequestError, audio
from segue.continuation import MAX_SEED, continue_audio
from segue.demo.toy import write_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx.sampling import Sampler, controls, noise
from segue.pattern import UNKNOWN, undelay

RATE = 32_000
HOP = 640
NAN, INFINITY = float("nan"), float("inf")


def music(seconds=0.5, rate=RATE, channels=1, seed=0, dtype=np.float32):
    samples = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))
    return samples.astype(dtype)


def request(samples=None, rate=RATE, **options):
    samples = music() if samples is None else samples
    options = {"prompt_seconds": 0.5, "output_seconds": 1.0, "seed": 1} | options
    return Request(audio.from_array(samples, rate), **options)


def play(model, samples=None, rate=RATE, **options):
    return continue_audio(model.engine, request(samples, rate, **options))


def codes_of(model, **options):
    """The codes of all takes, `(N, K, F)`, without decoding them."""
    continuation = Continuation(model.engine, request(**options))
    for _ in continuation.frames():
        pass
    return continuation.codes


class Overheard:
    """An engine that notes which windows it was given."""

    def __init__(self, engine):
        self._engine = engine
        self.windows = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def prefill(self, sequence, seeds, sampling, conditioning=None, first_step=0):
        self.windows.append((first_step, sequence.copy()))
        return self._engine.prefill(sequence, seeds, sampling, conditioning, first_step)


# --- The prompt -----------------------------------------------------------------------------------


def test_the_prompt_is_the_start_and_the_result_is_as_long_as_was_asked(model):
    samples = music(2.0)
    result = play(model, samples)
    assert result.join == RATE // 2
    assert (result.prompt_frames, result.new_frames) == (25, 25)
    assert result.takes[0].audio.samples.shape == (RATE, 1)
    assert np.array_equal(result.takes[0].codes[:, :25], model.engine.encode(samples[: RATE // 2]))
    assert not result.notes


def test_the_prompt_is_the_end_and_all_that_was_before_it_stays(model):
    samples = music(2.0)
    result = play(model, samples, prompt_from="end")
    take = result.takes[0]
    assert result.join == 2 * RATE
    assert take.audio.samples.shape == (2 * RATE + RATE // 2, 1)
    assert np.array_equal(take.audio.samples[: 2 * RATE], samples)
    assert np.array_equal(take.codes[:, :25], model.engine.encode(samples[-RATE // 2 :]))


@pytest.mark.parametrize("prompt_from", ["start", "end"])
def test_nothing_but_the_prompt_is_heard(model, prompt_from):
    one, other = music(2.0), music(2.0, seed=9)
    heard = slice(None, RATE // 2) if prompt_from == "start" else slice(-RATE // 2, None)
    other[heard] = one[heard]
    results = [play(model, samples, prompt_from=prompt_from) for samples in (one, other)]
    assert np.array_equal(results[0].takes[0].codes, results[1].takes[0].codes)


@pytest.mark.parametrize("prompt_from", ["start", "end"])
@pytest.mark.parametrize(
    ("rate", "channels", "dtype"),
    [
        (44_100, 2, np.float32),
        (96_000, 7, np.float32),
        (48_000, 1, np.float64),
        (11_025, 3, np.float32),
        (7350, 1, np.float32),
        (22_050, 2, np.float64),
    ],
)
def test_the_users_samples_are_kept_bit_by_bit_at_their_rate_and_channels(
    model, rate, channels, dtype, prompt_from
):
    samples = music(1.0, rate, channels, dtype=dtype)
    result = play(model, samples, rate, prompt_seconds=0.4, prompt_from=prompt_from)
    sound = result.takes[0].audio
    before = 0 if prompt_from == "start" else rate - rate * 2 // 5
    assert result.join == before + rate * 2 // 5
    assert sound.samples.dtype == dtype
    assert (sound.sample_rate, sound.samples.shape) == (rate, (before + rate, channels))
    assert np.array_equal(sound.samples[: result.join], samples[: result.join])
    assert np.abs(sound.samples[result.join :]).max(axis=0).min() > 0
    assert np.isfinite(sound.samples).all()


def test_a_24_bit_file_comes_out_with_the_same_24_bits(model, tmp_path):
    bits = np.random.default_rng(0).integers(-(2**23), 2**23, (44_100, 2)) << 8
    soundfile.write(tmp_path / "in.wav", bits.astype(np.int32), 44_100, "PCM_24")
    request = Request(audio.read(tmp_path / "in.wav"), prompt_seconds=0.5, output_seconds=1, seed=1)
    result = continue_audio(model.engine, request)
    audio.write(tmp_path / "out.wav", result.takes[0].audio)
    out, rate = soundfile.read(tmp_path / "out.wav", dtype="int32")
    assert soundfile.info(tmp_path / "out.wav").subtype == "PCM_24"
    assert (rate, out.shape) == (44_100, (44_100, 2))
    assert np.array_equal(out[:22_050], bits[:22_050])


def test_after_the_fade_the_codecs_own_sound_is_heard(model):
    result = play(model)
    take = result.takes[0]
    decoded = model.engine.decode(take.codes)
    assert np.array_equal(take.played.samples, decoded)
    after = result.join + RATE // 100
    assert np.array_equal(take.audio.samples[after:], decoded[after:])


def test_what_the_codec_played_of_the_prompt_is_there_for_those_who_ask(model):
    samples = music(2.0, 44_100, 2)
    take = play(model, samples, 44_100, prompt_from="end").takes[0]
    assert take.played.samples.shape == (44_100, 2)
    assert take.played.sample_rate == 44_100
    assert not np.array_equal(take.played.samples[:22_050], samples[-22_050:])


@pytest.mark.parametrize("prompt_from", ["start", "end"])
def test_audio_shorter_than_the_prompt_is_used_whole_and_noted(model, prompt_from):
    samples = music(0.3)
    result = play(model, samples, prompt_from=prompt_from)
    assert result.prompt_frames == 15
    assert result.new_frames == 35
    assert result.join == len(samples)
    (note,) = result.notes
    assert "shorter" in note
    assert "0.3 s" in note


@pytest.mark.parametrize("prompt_from", ["start", "end"])
@pytest.mark.parametrize(("length", "frames"), [(220, 1), (440, 1), (441, 2), (661, 3), (1543, 7)])
def test_frames_that_do_not_fall_on_samples_are_not_looked_for_beyond_the_audio(
    model, length, frames, prompt_from
):
    """At 11 025 Hz a frame has 220.5 samples; half a sample may be missing from the last."""
    samples = music(rate=length, seconds=1, channels=2)
    result = play(model, samples, 11_025, output_seconds=0.3, prompt_from=prompt_from)
    assert result.prompt_frames == frames
    assert result.join <= length
    assert np.array_equal(result.takes[0].audio.samples[: result.join], samples[: result.join])


@pytest.mark.parametrize("rate", [7350, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_two_seconds_are_100_frames_at_every_rate(model, rate):
    there = request(np.zeros((3 * rate, 1)), rate, prompt_seconds=2, output_seconds=3)
    continuation = Continuation(model.engine, there)
    assert continuation.prompt_codes.shape == (4, 100)
    assert continuation.total_frames == 150


def test_a_silent_prompt_is_played_on_from_and_noted(model):
    result = play(model, np.zeros((RATE, 2), np.float32))
    assert result.notes == ("the prompt is silent: the model plays on from silence",)
    assert not result.takes[0].audio.samples[: result.join].any()


def test_one_frame_is_enough(model):
    result = play(model, music()[:HOP])
    assert (result.prompt_frames, result.new_frames) == (1, 49)


@pytest.mark.parametrize("length", [0, 1, HOP // 2, HOP - 1])
def test_less_than_a_frame_of_audio_is_too_short(model, length):
    with pytest.raises(AudioError, match="too short"):
        play(model, music()[:length])


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, 1e38])
def test_a_prompt_that_holds_no_numbers_is_refused(model, value):
    samples = music()
    samples[100] = value
    for prompt_from in ("start", "end"):
        with pytest.raises(AudioError, match=r"NaN|infinity"):
            play(model, samples, prompt_from=prompt_from)


def test_what_is_not_used_may_hold_anything(model):
    samples = music(1.0)
    samples[RATE // 2 :] = NAN
    assert np.isfinite(play(model, samples).takes[0].audio.samples).all()


def test_what_is_kept_before_the_prompt_may_not(model):
    samples = music(1.0)
    samples[0] = NAN
    with pytest.raises(AudioError, match="NaN"):
        play(model, samples, prompt_from="end")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [1e-30, 1e-9, 1e3, 1e15])
def test_very_quiet_and_very_loud_audio_gives_a_finite_result(model, level, dtype):
    samples = (level * music(dtype=np.float64)).astype(dtype)
    assert np.isfinite(play(model, samples).takes[0].audio.samples).all()


@pytest.mark.parametrize(("prompt", "output"), [(0.5, 0.5), (0.5, 0.4), (0.5, 0.504), (0.5, 1e-9)])
def test_a_prompt_as_long_as_the_output_leaves_nothing_to_play(model, prompt, output):
    with pytest.raises(RequestError, match="nothing to play"):
        play(model, prompt_seconds=prompt, output_seconds=output)


def test_a_prompt_of_less_than_a_frame_is_refused(model):
    with pytest.raises(RequestError, match="less than one frame"):
        play(model, prompt_seconds=0.01)


def test_a_prompt_setting_beyond_the_audio_is_no_error(model):
    assert play(model, prompt_seconds=1e300).prompt_frames == 25


def test_mono_and_stereo_go_in_and_out_of_stereo_models(stereo_model):
    for channels in (1, 2, 7):
        samples = music(1.0, 44_100, channels)
        result = play(stereo_model, samples, 44_100)
        take = result.takes[0]
        assert take.codes.shape == (8, 50)
        assert take.audio.samples.shape == (44_100, channels)
        assert np.array_equal(take.audio.samples[: result.join], samples[: result.join])


def test_left_and_right_are_heard_apart(stereo_model):
    samples = music(channels=2)
    there = Continuation(stereo_model.engine, request(samples)).prompt_codes
    swapped = Continuation(stereo_model.engine, request(samples[:, ::-1])).prompt_codes
    assert not np.array_equal(there[0::2], there[1::2])
    assert np.array_equal(there[0::2], swapped[1::2])
    assert np.array_equal(there[1::2], swapped[0::2])


# --- Options --------------------------------------------------------------------------------------

OUT_OF_RANGE: list[tuple[str, list[Any]]] = [
    ("extend_stride", [0, -1, float("inf"), float("nan")]),
    ("top_p", [-0.1, 1.1, float("nan")]),
    ("prompt_seconds", [0, -1, NAN, INFINITY, -INFINITY]),
    ("output_seconds", [0, -1, NAN, INFINITY, -INFINITY, 3601, 1e300]),
    ("prompt_from", ["", "middle", None]),
    ("top_k", [-1, -(10**30), NAN]),
    ("temperature", [-0.1, 101, NAN, INFINITY, 1e300]),
    ("guidance_coef", [-101, 101, NAN, INFINITY, -INFINITY]),
    ("seed", [-1, MAX_SEED + 1, 10**30, NAN]),
    ("variations", [0, -1, 65, 10**30, NAN]),
    ("text", ["\0", "drums\0", "\udcff"]),
]


@pytest.mark.parametrize(
    ("option", "value"), [(o, v) for o, values in OUT_OF_RANGE for v in values]
)
def test_an_option_out_of_range_is_refused_in_one_line(option, value):
    with pytest.raises(RequestError) as error:
        request(**{option: value})
    assert "\n" not in str(error.value)
    assert option.split("_")[0] in str(error.value)


def test_every_option_is_tested():
    tested = {option for option, _ in OUT_OF_RANGE} | {"audio", "allow_empty_text_cfg"}
    tested |= {"melody", "texts"}  # in test_melody and test_texts
    tested |= {"seconds", "bpm", "beats_per_bar", "downbeat", "bars", "prompt_bars", "snap"}
    tested |= {"loop_crossfade"}  # these in test_bars
    tested |= {"parts"}  # in test_parts
    assert tested == {field.name for field in fields(Request)}


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 10**30},
        {"top_k": 0},
        {"temperature": 0},
        {"temperature": 100},
        {"temperature": 1e-6},
        {"guidance_coef": -100, "text": "drums"},
        {"guidance_coef": 100, "text": "drums"},
        {"seed": 0},
        {"seed": MAX_SEED},
        {"seed": MAX_SEED - 2, "variations": 3},
        {"text": "words that no tokenizer knows, 音楽 🎵\n\t"},
        {"text": "drums " * 500},
        {"output_seconds": 0.52},
    ],
)
def test_options_at_the_edge_of_their_range_work(model, options):
    result = play(model, **options)
    codes = result.takes[0].codes
    assert codes.min() >= 0
    assert codes.max() < model.config.lm.cardinality
    assert np.isfinite(result.takes[0].audio.samples).all()


@pytest.mark.parametrize(("seed", "variations"), [(MAX_SEED, 2), (MAX_SEED - 2, 4)])
def test_the_seeds_of_all_takes_are_in_range(seed, variations):
    with pytest.raises(RequestError, match="seeds lie between 0 and 4294967295"):
        request(seed=seed, variations=variations)


def test_the_largest_number_of_variations_is_played(model):
    codes = codes_of(model, variations=64, output_seconds=0.6)
    assert len({take.tobytes() for take in codes}) == 64


def test_a_library_call_takes_the_options_of_a_request(model):
    samples = music(1.0, 44_100, 2)
    options = {"prompt_seconds": 0.5, "output_seconds": 1, "seed": 7, "top_k": 5, "text": "bass"}
    result = model.continue_audio(samples, 44_100, **options)
    again = play(model, samples, 44_100, **options)
    assert np.array_equal(result.takes[0].codes, again.takes[0].codes)
    with pytest.raises(TypeError):
        model.continue_audio(samples, 44_100, no_such_option=1)
    with pytest.raises(AudioError, match="sample rate"):
        model.continue_audio(samples, 0)


# --- Seeds ----------------------------------------------------------------------------------------


def test_same_seed_gives_same_codes_whatever_ran_before_and_whatever_is_loaded(model, tmp_path):
    before = codes_of(model)
    other = segue.load(str(write_checkpoint(tmp_path / "other", seed=5, stereo=True)))
    mx.random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    codes_of(other, text="drums", variations=2)
    codes_of(model, seed=2, text="piano slow", temperature=2.0, top_k=3)
    assert np.array_equal(codes_of(model), before)


def test_a_model_loaded_anew_gives_the_same_codes_and_samples(model, toy):
    one, other = play(model).takes[0], play(segue.load(str(toy))).takes[0]
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.audio.samples, other.audio.samples)


def test_different_seeds_play_differently(model):
    played = {codes_of(model, seed=seed).tobytes() for seed in (0, 1, 2, 2**31, MAX_SEED)}
    assert len(played) == 5


def test_a_seed_that_is_not_given_is_chosen_told_and_can_be_used_again(model):
    first, second = play(model, seed=None), play(model, seed=None)
    assert first.takes[0].seed != second.takes[0].seed
    again = play(model, seed=first.takes[0].seed)
    assert np.array_equal(again.takes[0].codes, first.takes[0].codes)
    assert not np.array_equal(again.takes[0].codes, second.takes[0].codes)


@pytest.mark.parametrize("options", [{}, {"text": "drums"}, {"top_k": 0, "temperature": 0.7}])
def test_a_take_of_a_batch_is_what_its_seed_gives_alone(model, options):
    together = play(model, variations=3, seed=5, **options)
    assert [take.seed for take in together.takes] == [5, 6, 7]
    for take in together.takes:
        alone = play(model, seed=take.seed, **options)
        assert np.array_equal(take.codes, alone.takes[0].codes)
        assert np.allclose(take.audio.samples, alone.takes[0].audio.samples, atol=1e-4)
    assert len({take.codes.tobytes() for take in together.takes}) == 3


def test_a_prompt_that_all_takes_share_is_heard_once(model):
    overheard = Overheard(model.engine)
    for _ in Continuation(overheard, request(variations=3)).frames():
        pass
    ((_, sequence),) = overheard.windows
    assert len(sequence) == 1


def test_what_is_played_does_not_depend_on_how_much_is_asked_for(model):
    """But for the last frames, whose late codebooks hear that the early ones have ended."""
    short, long = codes_of(model, output_seconds=0.8), codes_of(model, output_seconds=1.6)
    assert np.array_equal(long[:, :, :37], short[:, :, :37])


# --- Text and guidance ----------------------------------------------------------------------------


def test_without_text_there_is_no_guidance(model):
    result = play(model)
    assert not result.guided
    assert "text_encode_s" not in result.timings
    assert np.array_equal(result.takes[0].codes, codes_of(model, guidance_coef=9.0)[0])


def test_with_text_the_coefficient_counts(model):
    result = play(model, text="drums fast")
    assert result.guided
    assert result.timings["text_encode_s"] > 0
    codes = [codes_of(model, text="drums fast", guidance_coef=coef)[0] for coef in (3.0, 9.0)]
    assert np.array_equal(result.takes[0].codes, codes[0])
    assert not np.array_equal(codes[0], codes[1])


def test_with_a_coefficient_of_zero_the_text_is_not_heard(model):
    assert np.array_equal(codes_of(model, text="drums fast", guidance_coef=0), codes_of(model))


def test_other_texts_play_differently(model):
    played = {codes_of(model, text=t).tobytes() for t in ("drums", "piano", "drums piano", "")}
    assert len(played) == 4


@pytest.mark.parametrize("coef", [0.0, 3.0, -5.0])
def test_guidance_without_text_is_run_for_those_who_ask_and_changes_nothing(model, coef):
    result = play(model, allow_empty_text_cfg=True, guidance_coef=coef)
    assert result.guided
    assert np.array_equal(result.takes[0].codes, codes_of(model)[0])


# --- Frames as they come --------------------------------------------------------------------------


@pytest.mark.parametrize("variations", [1, 3])
def test_frames_are_handed_out_one_by_one_and_add_up_to_the_codes(model, variations):
    continuation = Continuation(model.engine, request(variations=variations))
    parts = [continuation.codes]
    for new in continuation.frames():
        assert new.shape == (variations, 4, 1)
        parts.append(new)
        assert np.array_equal(np.concatenate(parts, axis=2), continuation.codes)
    assert continuation.codes.shape == (variations, 4, continuation.total_frames)
    for n, take in enumerate(continuation.result().takes):
        assert np.array_equal(take.codes, continuation.codes[n])


def test_every_code_is_one_that_the_codec_knows(stereo_model):
    codes = codes_of(stereo_model, variations=2, top_k=0, temperature=10)
    assert codes.min() >= 0
    assert codes.max() < stereo_model.config.lm.cardinality


def test_stopping_early_gives_a_short_result(model):
    samples = music(1.0, 44_100, 2)
    continuation = Continuation(model.engine, request(samples, 44_100, output_seconds=2))
    for n, _ in enumerate(continuation.frames(), start=1):
        if n == 10:
            break
    result = continuation.result()
    assert result.new_frames == 10
    assert result.takes[0].audio.samples.shape == (35 * 882, 2)
    assert np.array_equal(result.takes[0].audio.samples[:22_050], samples[:22_050])
    whole = codes_of(model, samples=samples, rate=44_100, output_seconds=2)
    assert np.array_equal(result.takes[0].codes, whole[0, :, :35])


def test_a_result_may_be_taken_before_anything_was_played(model):
    continuation = Continuation(model.engine, request())
    result = continuation.result()
    assert result.new_frames == 0
    assert np.array_equal(result.takes[0].audio.samples, music())


def test_who_stopped_may_go_on_and_hears_what_would_have_come(model):
    continuation = Continuation(model.engine, request())
    for _ in continuation.frames():
        if continuation.codes.shape[2] == 40:
            break
    for _ in continuation.frames():
        pass
    assert np.array_equal(continuation.codes, codes_of(model))


def test_a_finished_continuation_plays_no_more(model):
    continuation = Continuation(model.engine, request())
    assert len(list(continuation.frames())) == 25
    assert list(continuation.frames()) == []


def test_the_result_tells_the_time_of_each_part_and_the_steps(model):
    result = play(model, text="drums")
    assert set(result.timings) == {
        "prompt_encode_s",
        "text_encode_s",
        "prefill_s",
        "token_generate_s",
        "decode_full_s",
    }
    assert all(seconds > 0 for seconds in result.timings.values())
    assert result.steps == result.new_frames + 3  # the last codebook runs three steps late


class Watched(segue.Progress):
    """Keeps the stages, how long each said it was, and how far each came."""

    def __init__(self):
        self.stages = {}

    @contextmanager
    def stage(self, name, total=None, unit=""):
        steps: list[int] = []
        self.stages[name] = (total, steps)
        yield lambda done, total=None: steps.append(done)


def test_progress_is_told_of_every_part(model):
    watched = Watched()
    continue_audio(model.engine, request(variations=2, text="drums"), watched)
    assert list(watched.stages) == ["encode", "read the text", "generate", "decode"]
    assert watched.stages["generate"] == (25, list(range(1, 26)))
    assert watched.stages["decode"] == (2, [1, 2])


# --- Longer than the window -----------------------------------------------------------------------


def play_windows(model, prompt_seconds, output_seconds):
    """The codes `(1, K, F)`, and which windows they were played in."""
    overheard = Overheard(model.engine)
    samples = music(prompt_seconds, channels=model.config.lm.audio_channels)
    continuation = Continuation(
        overheard,
        request(samples, prompt_seconds=prompt_seconds, output_seconds=output_seconds),
    )
    new = list(continuation.frames())
    first = round(prompt_seconds * 50)
    assert np.array_equal(np.concatenate(new, axis=2), continuation.codes[:, :, first:])
    return continuation.codes, overheard.windows


@pytest.mark.parametrize(
    ("prompt_s", "output_s", "starts"),
    [
        (29.5, 30, [0]),
        (29.5, 30.02, [0, 900]),
        (45, 70, [1650, 2550]),
    ],
)
def test_the_window_moves_by_18_s_and_keeps_12(model, prompt_s, output_s, starts):
    codes, windows = play_windows(model, prompt_s, output_s)
    total = round(output_s * 50)
    assert codes.shape == (1, 4, total)
    assert [start for start, _ in windows] == starts
    for n, (start, sequence) in enumerate(windows):
        window = undelay(sequence, model.config.lm.delays)[0]
        known = (window != UNKNOWN).all(axis=0).sum()
        assert window.shape[1] == min(start + 1500, total) - start
        assert known == (1500 - 900 if n else round(prompt_s * 50) - start)
        assert np.array_equal(window[:, :known], codes[0, :, start : start + known])


def test_forty_seconds_begin_as_thirty_do_and_have_their_exact_length(model):
    samples = music(29.5, 11_025)
    there = {"samples": samples, "rate": 11_025, "prompt_seconds": 29.5}
    thirty = codes_of(model, output_seconds=30, **there)
    take = play(model, output_seconds=40, **there).takes[0]
    assert take.codes.shape == (4, 2000)
    assert np.array_equal(take.codes[:, :1500], thirty[0])
    assert take.audio.samples.shape == (40 * 11_025, 1)
    assert np.array_equal(take.audio.samples[: len(samples) - 1], samples[:-1])


def test_a_stereo_prompt_longer_than_the_window_is_played_on_from(stereo_model):
    codes, windows = play_windows(stereo_model, 30.5, 31)
    assert codes.shape == (1, 8, 1550)
    assert [start for start, _ in windows] == [50]


def test_what_of_a_long_prompt_is_not_heard_is_noted(model):
    result = play(model, music(30.5), prompt_seconds=30.5, output_seconds=30.6)
    assert any("last 29.9 s, and not the first 0.6 s" in note for note in result.notes)
    assert len(result.notes) == 1


# --- Drawing --------------------------------------------------------------------------------------


def noise_of(seeds, step, K=4, V=16):
    step = mx.array(np.broadcast_to(step, (1,) if np.isscalar(step) else len(step)), mx.uint32)
    return np.array(noise(mx.array(np.array(seeds, np.uint32)), step, K, V))


def draw(logits, seeds, step=7, **options):
    """Tokens `(N, K)` for one `(K, V)` of logits, or a stack of them."""
    sampling = Sampling(**options)
    logits = np.asarray(logits, np.float32)
    rows = logits if logits.ndim == 3 else np.repeat(logits[None], len(seeds), axis=0)
    drawn = mx.array(noise_of(seeds, step, *rows.shape[1:]))
    return np.array(Sampler.of(sampling)(mx.array(rows), drawn, controls(sampling)))


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def chi_square(tokens, probabilities):
    """Of drawn tokens; to be compared with its degrees of freedom."""
    expected = probabilities * tokens.size
    there = expected > 0
    counts = np.bincount(tokens.ravel(), minlength=len(probabilities))
    assert counts[~there].sum() == 0
    return ((counts - expected)[there] ** 2 / expected[there]).sum(), there.sum() - 1


def test_noise_is_the_same_alone_and_in_a_batch_and_whatever_was_drawn_before():
    together = noise_of([3, 4, 5], step=7)
    mx.random.seed(1)
    noise_of([9], step=7)
    for n, seed in enumerate((3, 4, 5)):
        assert np.array_equal(noise_of([seed], step=7)[0], together[n])


def test_noise_differs_by_seed_by_step_and_by_codebook():
    rows = [
        noise_of([seed], step)[0, k].tobytes()
        for seed in (0, 1, 2, MAX_SEED)
        for step in (0, 1, 2, 1500)
        for k in range(4)
    ]
    assert len(set(rows)) == len(rows)


def test_noise_is_that_of_gumbel():
    """Its quantiles: P(g < x) = exp(-exp(-x))."""
    values = np.concatenate(
        [noise_of(range(500), 3).ravel(), noise_of([1] * 500, range(500)).ravel()]
    )
    for x in (-1.0, 0.0, 1.0, 3.0):
        assert abs((values < x).mean() - math.exp(-math.exp(-x))) < 0.01


@pytest.mark.parametrize("k", [1, 2, 5, 15, 16, 17, 1000, 0])
def test_among_equal_logits_exactly_k_tokens_are_drawn(k):
    tokens = draw(np.zeros((4, 16)), range(1000), top_k=k)
    expected = k if 0 < k < 16 else 16
    assert [len(set(tokens[:, codebook])) for codebook in range(4)] == [expected] * 4


def test_ties_at_the_edge_are_cut_to_k_and_what_is_above_them_stays():
    logits = np.array([[2.0, 1, 1, 1, 1, 0, 0, 0]])
    tokens = set(draw(logits, range(1000), top_k=3).ravel())
    assert len(tokens) == 3
    assert 0 in tokens
    assert tokens < {0, 1, 2, 3, 4}


def test_the_k_likeliest_are_drawn_wherever_they_stand():
    logits = np.random.default_rng(0).permuted(np.tile(np.arange(16.0), (4, 1)), axis=1)
    tokens = draw(logits / 4, range(2000), top_k=5)
    for codebook in range(4):
        assert set(tokens[:, codebook]) == set(np.argsort(logits[codebook])[-5:])


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"temperature": 0}, {"top_k": 1, "temperature": 5}]
)
def test_k_of_one_and_no_temperature_take_the_likeliest(options):
    logits = np.random.default_rng(0).normal(size=(4, 16))
    tokens = draw(logits, range(50), **options)
    assert (tokens == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("k", [16, 17, 10**6])
def test_k_of_all_is_no_k(k):
    logits = np.random.default_rng(0).normal(size=(4, 16))
    assert np.array_equal(draw(logits, range(200), top_k=k), draw(logits, range(200), top_k=0))


@pytest.mark.parametrize("k", [0, 3, 8])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax_of_what_k_leaves(k, temperature):
    logits = np.array([0.0, 2.0, -1.0, 0.5, 1.5, 0.0, -3.0, 1.0])
    kept = logits >= np.sort(logits)[-k] if 0 < k < 8 else np.full(8, True)
    probabilities = softmax(np.where(kept, logits / temperature, -np.inf))
    tokens = draw(np.tile(logits, (4, 1)), range(20_000), top_k=k, temperature=temperature)
    statistic, freedom = chi_square(tokens, probabilities)
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def test_one_seed_draws_from_the_softmax_over_its_steps():
    logits = np.array([0.0, 2.0, -1.0, 0.5])
    gumbel = noise_of([11] * 4000, range(4000), V=4)
    statistic, freedom = chi_square((logits + gumbel).argmax(axis=-1), softmax(logits))
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("coef", [0.0, 1.0, 3.0, 10.0, -2.0])
def test_guidance_goes_from_the_unconditioned_through_the_conditioned(coef):
    random = np.random.default_rng(0)
    cond, uncond = random.normal(size=(2, 50, 4, 16))
    combined = uncond + (cond - uncond) * coef
    seeds = range(50)
    streams = np.concatenate([cond, uncond])
    greedy = draw(streams, seeds, top_k=1, guidance_coef=coef)
    assert np.array_equal(greedy, combined.argmax(axis=-1))
    drawn = draw(streams, seeds, top_k=5, guidance_coef=coef)
    assert np.array_equal(drawn, draw(combined, seeds, top_k=5))


def test_two_variants_share_their_noise_and_differ_only_where_their_logits_do():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 16))
    nearly = logits + 1e-3 * random.normal(size=(4, 16))
    seeds = range(1000)
    assert (draw(logits, seeds, top_k=0) != draw(nearly, seeds, top_k=0)).mean() < 0.01
    assert (draw(logits, seeds, top_k=0) != draw(logits, range(1, 1001), top_k=0)).mean() > 0.5
