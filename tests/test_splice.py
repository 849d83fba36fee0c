import numpy as np
import pytest

from segue.splice import CROSSFADE_SECONDS, extrapolate, splice

RATE = 44_100
JOIN = RATE // 4


def sine(hertz, level, phase=0.0, dc=0.0, rate=RATE, seconds=0.5):
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * t + phase) + dc)[:, None]


def noise(level, channels=1, seed=0):
    return level * np.random.default_rng(seed).standard_normal((RATE // 2, channels))


def brown(level, seed=0):
    return np.cumsum(noise(level, seed=seed), axis=0) / np.sqrt(RATE)


def fade_of(rate):
    return round(CROSSFADE_SECONDS * rate)


def bend(samples):
    """The largest second difference: what a click has and music around it has not."""
    return np.abs(np.diff(samples, 2, axis=0)).max()


def bends(spliced, original, generated, rate):
    """The largest bend around the join, and that of what is joined."""
    join, fade = len(original), fade_of(rate)
    around = max(bend(original[-4 * fade :]), bend(generated[join + fade : join + 5 * fade]))
    return bend(spliced[join - 3 : join + fade + 3]), around


TONES = {
    "louder": (sine(440, 0.8), sine(440, 0.1)),
    "opposite phase": (sine(440, 0.8), sine(440, 0.8, np.pi)),
    "another offset": (sine(440, 0.3), sine(440, 0.3, 2.0, dc=0.5)),
    "another pitch": (sine(55, 0.8), sine(2000, 0.2, 1.0)),
    "into silence": (sine(220, 0.8), sine(220, 0.0)),
    "out of silence": (sine(220, 0.0), sine(220, 0.8, 1.0)),
    "a chord": (sine(220, 0.3) + sine(277.2, 0.3) + sine(329.6, 0.3), sine(220, 0.5, 2.0)),
}
NOISES = {
    "alike": (noise(0.1), noise(0.1, seed=1)),
    "louder": (noise(0.01), noise(0.3, seed=1)),
    "quieter": (noise(0.3), noise(0.001, seed=1)),
    "clipped": (np.clip(noise(1), -1, 1), np.clip(noise(1, seed=1), -1, 1)),
    "brown": (brown(0.5), brown(0.5, seed=1) + 0.3),
}


@pytest.mark.parametrize("mismatch", TONES)
def test_tones_are_joined_without_a_click_that_cutting_would_make(mismatch):
    original, generated = TONES[mismatch]
    original = original[:JOIN]
    spliced = splice(original, generated, RATE)
    near, around = bends(spliced, original, generated, RATE)
    cut, _ = bends(np.concatenate([original, generated[JOIN:]]), original, generated, RATE)
    assert near < 1.1 * around
    assert cut > 4 * around


@pytest.mark.parametrize("mismatch", NOISES)
def test_noise_is_joined_without_a_click(mismatch):
    original, generated = NOISES[mismatch]
    near, around = bends(splice(original[:JOIN], generated, RATE), original[:JOIN], generated, RATE)
    assert near < 1.1 * around


@pytest.mark.parametrize("rate", [7350, 8000, 22_050, 48_000, 96_000, 192_000, 768_000])
def test_there_is_no_click_at_any_rate(rate):
    original, generated = sine(220, 0.8, rate=rate)[: rate // 4], sine(220, 0.5, 2.0, 0.2, rate)
    near, around = bends(splice(original, generated, rate), original, generated, rate)
    assert near < 1.1 * around


@pytest.mark.parametrize("join", [RATE // 4, 1000, 129, 128, 50, 10])
def test_there_is_no_click_after_a_short_original(join):
    original, generated = sine(100, 0.8, dc=0.1)[:join], sine(100, 0.8, 2.0, -0.3)
    spliced = splice(original, generated, RATE)
    steps = np.abs(np.diff(spliced, axis=0))[max(0, join - 2) :]
    assert steps.max() < 5 * np.abs(np.diff(generated, axis=0)).max()


@pytest.mark.parametrize("join", [0, 1, 2])
def test_a_very_short_original_is_unchanged(join):
    original, generated = sine(100, 0.8, 1.0)[:join], sine(100, 0.8)
    spliced = splice(original, generated, RATE)
    assert np.array_equal(spliced[:join], original)
    assert np.array_equal(spliced[join:], generated[join:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_the_original_is_unchanged_and_the_generated_audio_is_too_after_the_fade(dtype, channels):
    original, generated = noise(0.3, channels).astype(dtype)[:JOIN], noise(0.3, channels, 1)
    generated = generated.astype(np.float32)
    spliced = splice(original, generated, RATE)
    assert spliced.dtype == dtype
    assert spliced.shape == generated.shape
    assert np.array_equal(spliced[:JOIN], original)
    after = JOIN + fade_of(RATE)
    assert np.array_equal(spliced[after:], generated[after:].astype(dtype))
    assert not np.array_equal(spliced[JOIN:after], generated[JOIN:after].astype(dtype))


def test_what_was_given_is_not_written_to():
    original, generated = noise(0.3)[:JOIN], noise(0.3, seed=1)
    before = original.copy(), generated.copy()
    splice(original, generated, RATE)
    assert np.array_equal(original, before[0])
    assert np.array_equal(generated, before[1])


def test_each_channel_is_spliced_as_if_it_were_alone():
    original, generated = noise(0.3, 3)[:JOIN], noise(0.3, 3, 1)
    together = splice(original, generated, RATE)
    for channel in range(3):
        alone = splice(original[:, [channel]], generated[:, [channel]], RATE)
        assert np.allclose(together[:, [channel]], alone, rtol=0, atol=1e-9)


def test_silence_stays_silence():
    assert not splice(np.zeros((JOIN, 2)), np.zeros((RATE, 2)), RATE).any()


@pytest.mark.parametrize("rest", [0, 1, 2, 100, fade_of(RATE), fade_of(RATE) + 1])
def test_little_or_no_generated_audio_is_spliced_too(rest):
    original, generated = noise(0.3)[:JOIN], noise(0.3, seed=1)[: JOIN + rest]
    spliced = splice(original, generated, RATE)
    assert spliced.shape == generated.shape
    assert np.array_equal(spliced[:JOIN], original)
    assert np.isfinite(spliced).all()


def test_the_codecs_copy_of_the_original_is_not_used():
    original, generated = sine(440, 0.5)[:JOIN], sine(440, 0.5)
    other = generated.copy()
    other[:JOIN] = noise(1.0)[:JOIN]
    assert np.array_equal(splice(original, generated, RATE), splice(original, other, RATE))


def test_prediction_continues_the_signal_that_it_was_fitted_to():
    signal = sine(440, 0.5, dc=0.1)[:, 0]
    assert np.allclose(extrapolate(signal[:JOIN], 441), signal[JOIN : JOIN + 441], atol=5e-3)


@pytest.mark.parametrize("level", [1e-30, 1e-9, 1e-5, 1.0, 1e12, 1e30])
def test_prediction_never_grows_beyond_the_music(level):
    for signal in (noise(level)[:, 0], brown(level)[:, 0], sine(30, level, dc=level)[:, 0]):
        predicted = extrapolate(signal[-4410:], 7680)
        assert np.isfinite(predicted).all()
        assert np.abs(predicted).max() <= 1.5 * np.abs(signal[-4410:]).max()
