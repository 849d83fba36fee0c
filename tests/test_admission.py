"""What numbers alone decide: the same before a job is accepted and when it runs."""

import itertools
from typing import Any

import numpy as np
import pytest

from segue import AudioError, Continuation, Request, RequestError, audio
from segue.admission import FRAME_RATE, MAX_SEED, check_options
from segue.checkpoints.load_report import LoadReport
from segue.errors import SegueError
from segue.layout import plan, stride_frames, windows

from .test_continuation import music

OPTIONS: dict[str, Any] = {
    "prompt_seconds": 6.0,
    "output_seconds": 30.0,
    "prompt_from": "start",
    "text": "",
    "top_k": 250,
    "temperature": 1.0,
    "guidance_coef": 3.0,
    "seed": None,
    "variations": 1,
}
USUAL: dict[str, Any] = {"prompt_seconds": 6, "output_seconds": 30, "prompt_from": "start"}


def test_a_prompt_is_whole_frames_from_either_end():
    rate = 44_100
    start = plan(10 * rate, rate, **(USUAL | {"prompt_seconds": 1.013}))
    assert (start.start, start.join, start.prompt_frames) == (0, rate, 50)
    end = plan(10 * rate, rate, **(USUAL | {"prompt_seconds": 1.013, "prompt_from": "end"}))
    assert (end.start, end.join, end.prompt_frames) == (9 * rate, 10 * rate, 50)
    assert start.total_frames == end.total_frames == 1500


def test_audio_that_is_short_is_used_whole_and_noted():
    short = plan(44_100, 44_100, **USUAL)
    assert (short.join, short.prompt_frames) == (44_100, 50)
    assert short.notes == ("the audio is shorter than the 6 s asked for: the prompt is 1 s",)
    assert not plan(6 * 44_100, 44_100, **USUAL).notes


@pytest.mark.parametrize(
    ("samples", "options", "error", "said"),
    [
        (300, {}, AudioError, "the audio is too short: 0.0068 s, and one frame"),
        (88_200, {"prompt_seconds": 0.005}, RequestError, "less than one frame"),
        (441_000, {"output_seconds": 6.005}, RequestError, "nothing to play: the prompt has 6 s"),
        (441_000, {"output_seconds": 6}, RequestError, "nothing to play"),
    ],
)
def test_what_leaves_no_prompt_or_nothing_to_play_is_refused(samples, options, error, said):
    with pytest.raises(error, match=said):
        plan(samples, 44_100, **(USUAL | options))


@pytest.mark.parametrize(("seed", "variations"), [(MAX_SEED, 2), (MAX_SEED - 2, 4), (-1, 1)])
def test_every_take_needs_a_seed(seed, variations):
    with pytest.raises(RequestError, match="seeds lie between 0 and 4294967295"):
        check_options(**(OPTIONS | {"seed": seed, "variations": variations}))
    check_options(**(OPTIONS | {"seed": MAX_SEED + 1 - variations, "variations": variations}))


@pytest.mark.parametrize(
    ("seconds", "frames"), [(30, 1500), (0.58, 28), (10.01, 500), (2.999, 149), (4.02, 200)]
)
def test_frames_are_counted_as_audiocraft_counts_them(seconds, frames):
    """`int(duration * frame_rate)`, in floats: 0.58 * 50 is a little less than 29."""
    laid_out = plan(0, 32_000, prompt_seconds=0, output_seconds=seconds, prompt_from="start")
    assert laid_out.total_frames == frames == int(seconds * 50)


@pytest.mark.parametrize(
    ("prompt", "total", "expected"),
    [
        (300, 1500, [(0, 1500)]),
        (0, 2000, [(0, 1500), (900, 2000)]),
        (1499, 1510, [(0, 1500), (900, 1510)]),
        (1500, 1510, [(10, 1510)]),  # nearly all of it is heard
        (1500, 4000, [(900, 2400), (1800, 3300), (2700, 4000)]),  # as much as leaves a stride
        (2250, 2300, [(800, 2300)]),
    ],
)
def test_windows_are_audiocrafts_and_a_long_prompt_is_heard_from_its_end(prompt, total, expected):
    assert windows(prompt, total, 1500, 900) == expected


def test_a_stride_is_the_models_own_unless_it_is_requested():
    assert stride_frames(None, 900, 1500) == 900
    assert stride_frames(2.5, 900, 1500) == 125
    for seconds in (0.01, 30, 31):
        with pytest.raises(RequestError, match="extend-stride"):
            stride_frames(seconds, 900, 1500)


def test_the_frame_rate_is_the_models(model):
    assert model.config.codec.frame_rate == FRAME_RATE


class Silent:
    """An engine that only has its shape."""

    def __init__(self, config):
        self.config, self.load_report = config, LoadReport()

    def encode(self, samples):
        frames = -(-len(samples) // self.config.codec.hop_length)
        return np.zeros((self.config.lm.num_codebooks, frames), np.int32)

    def decode(self, codes, advance):
        codec = self.config.codec
        frames = codes.shape[-1]
        return np.zeros((len(codes), frames * codec.hop_length, codec.audio_channels), np.float32)


def tried(work):
    """What comes of it, or the line of its error."""
    try:
        return work()
    except SegueError as error:
        return str(error)


def test_what_is_planned_is_what_runs(model):
    """Around every edge: frames that are not whole, rates that do not divide, ends that meet."""
    engine: Any = Silent(model.config)
    outcomes = set()
    for rate, samples, prompt, output, end in itertools.product(
        (8_000, 11_025, 44_100),
        (70, 160, 330, 661, 5_000),
        (0.005, 0.02, 0.033),
        (0.02, 0.03, 0.05, 0.3),
        ("start", "end"),
    ):
        options: dict[str, Any] = {
            "prompt_seconds": prompt,
            "output_seconds": output,
            "prompt_from": end,
        }
        request = Request(audio.from_array(music(1.0, rate)[:samples], rate), seed=1, **options)
        planned = tried(lambda: plan(samples, rate, **options))  # noqa: B023 - called at once
        ran = tried(lambda: Continuation(engine, request))  # noqa: B023
        if isinstance(ran, Continuation):
            assert planned.prompt_frames == ran.prompt_codes.shape[1]
            assert planned.total_frames == ran.total_frames
            assert planned.join == ran.result().join
        else:
            assert planned == ran
        outcomes.add(type(planned))
    assert len(outcomes) == 2
