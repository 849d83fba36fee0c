"""Up and down mixing, one tone a channel."""

import numpy as np
import pytest

from segue.audio.channels import (
    fitting,
    layout_of,
    speakers,
    to_channels,
    usual_layout,
    vorbis_order,
)

DOWN = 0.7071067811865476
"""-3 dB."""

FRONT = {"FL": (1, 0), "FR": (0, 1), "FC": (DOWN, DOWN), "LFE": (0, 0)}
BACK = {"BL": (DOWN, 0), "BR": (0, DOWN)}
SIDES = {"SL": (DOWN, 0), "SR": (0, DOWN)}

LAYOUTS = {
    "3.0": (0x7, {"FL": (1, 0), "FR": (0, 1), "FC": (DOWN, DOWN)}),
    "quad": (0x33, {"FL": (1, 0), "FR": (0, 1)} | BACK),
    "4.0": (0x107, {"FL": (1, 0), "FR": (0, 1), "FC": (DOWN, DOWN), "BC": (0.5, 0.5)}),
    "5.1": (0x3F, FRONT | BACK),
    "5.1(side)": (0x60F, FRONT | SIDES),
    "6.1": (0x70F, FRONT | {"BC": (0.5, 0.5)} | SIDES),
    "7.1": (0x63F, FRONT | BACK | SIDES),
}
"""What ITU-R BS.775, table 2, makes of each speaker, left and right."""


def one_tone_a_channel(channels, dtype=np.float32):
    t = np.arange(4800)[:, None] / 48_000
    return np.sin(2 * np.pi * 400 * (1 + np.arange(channels)) * t).astype(dtype)


def gains(mixed, tones):
    """How much of each tone is in each channel."""
    return (tones.T @ mixed) / (tones**2).sum(axis=0)[:, None]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tone_for_each_speaker_is_mixed_down_to_stereo_by_bs_775(name, dtype):
    layout, expected = LAYOUTS[name]
    tones = one_tone_a_channel(len(expected), dtype)
    mixed = to_channels(tones, 2, layout)
    assert mixed.dtype == dtype
    assert speakers(layout) == list(expected)
    assert np.allclose(gains(mixed, tones), list(expected.values()), atol=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_mono_is_the_mean_of_that_stereo_as_it_is_of_a_stereo_file(name):
    layout, expected = LAYOUTS[name]
    tones = one_tone_a_channel(len(expected))
    mixed = to_channels(tones, 1, layout)
    means = [[(left + right) / 2] for left, right in expected.values()]
    assert np.allclose(gains(mixed, tones), means, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
def test_without_a_layout_the_speakers_are_the_usual_ones(channels):
    tones = one_tone_a_channel(channels)
    usual = usual_layout(channels)
    assert len(speakers(usual)) == channels
    assert np.array_equal(to_channels(tones, 2), to_channels(tones, 2, usual))


@pytest.mark.parametrize(("channels", "layout"), [(9, None), (6, 0), (6, 0x7)])
def test_channels_for_no_speakers_are_left_and_right_in_turn(channels, layout):
    tones = one_tone_a_channel(channels)
    mixed = to_channels(tones, 2, layout)
    assert np.allclose(mixed[:, 0], tones[:, ::2].mean(axis=1), atol=1e-6)
    assert np.allclose(mixed[:, 1], tones[:, 1::2].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_spread_over_speakers_is_mixed_down_to_what_it_was(name, channels):
    layout, expected = LAYOUTS[name]
    tones = one_tone_a_channel(channels)
    spread = to_channels(tones, len(expected), layout)
    decoded = [name for name, column in zip(expected, spread.T, strict=True) if column.any()]
    assert decoded == ["FL", "FR"]
    assert np.array_equal(to_channels(spread, channels, layout), tones)


@pytest.mark.parametrize(
    ("have", "want"), [([6], [6]), ([6], [6, 6]), ([2, 6], [4]), ([2, 6], [2, 6])]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mono_and_stereo_are_copies_and_means(have, want, dtype):
    mixed = to_channels(np.array([have, have], dtype), len(want))
    assert mixed.tolist() == [want, want]
    assert mixed.dtype == dtype


def test_vorbis_order_is_that_of_its_specification():
    theirs = {
        3: "L C R",
        4: "L R BL BR",
        5: "L C R BL BR",
        6: "L C R BL BR LFE",
        7: "L C R SL SR BC LFE",
        8: "L C R SL SR BL BR LFE",
    }
    ours = {
        3: "L R C",
        4: "L R BL BR",
        5: "L R C BL BR",
        6: "L R C LFE BL BR",
        7: "L R C LFE BC SL SR",
        8: "L R C LFE BL BR SL SR",
    }
    for channels, order in theirs.items():
        names = order.split()
        assert [names[n] for n in vorbis_order(channels)] == ours[channels].split()
    assert vorbis_order(2) == [0, 1]
    assert vorbis_order(9) == list(range(9))


def test_layouts_and_speakers_are_one():
    assert layout_of(["FL", "FR", "FC", "LFE", "BL", "BR"]) == 0x3F
    assert layout_of(["FL", "FL"]) is None
    assert layout_of(["NONE", "NONE"]) is None
    assert fitting(None, 6) == 0x3F
    assert fitting(0x60F, 6) == 0x60F
    assert fitting(0x3, 6) == fitting(None, 9) == 0
