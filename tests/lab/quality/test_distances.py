"""Sounds apart, where the answer is known."""

import numpy as np
import pytest

from segue.demo.prompt import SAMPLE_RATE, band
from segue.lab.quality import distances
from segue.lab.quality.free_running import MEASURES, sound_measures

RATE = 32_000


def tone(hertz, level=0.1, seconds=3.0, rate=RATE):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)[:, None]


def chord(*notes):
    return sum(tone(440 * 2 ** ((note - 69) / 12)) for note in notes)


def noise(seed=0, level=0.1, channels=1):
    return level * np.random.default_rng(seed).standard_normal((3 * RATE, channels))


def clicks(every, seconds=3.0, late=0):
    samples = np.zeros((round(seconds * RATE), 1))
    samples[late :: round(every * RATE)] = 0.8
    return samples


@pytest.fixture(scope="module")
def music():
    return band(4.0).samples


def test_the_same_sound_is_no_distance_apart(music):
    found = dict(zip(MEASURES, sound_measures(music, music.copy(), SAMPLE_RATE), strict=True))
    assert found == {
        "spectral_distance_db": 0,
        "spectral_convergence": 0,
        "chroma_similarity": pytest.approx(1, abs=1e-12),
        "onset_similarity": 1,
        "loudness_difference_lu": 0,
    }


def test_twice_as_loud_is_six_decibels_and_the_same_music():
    one = noise()
    found = dict(zip(MEASURES, sound_measures(one, 2 * one, RATE), strict=True))
    assert found["spectral_distance_db"] == pytest.approx(6.0206, abs=1e-4)
    assert found["spectral_convergence"] == pytest.approx(1)
    assert found["chroma_similarity"] == pytest.approx(1)
    assert found["loudness_difference_lu"] == pytest.approx(6.0206, abs=1e-4)


def test_two_noises_have_one_spectrum_and_no_common_rhythm():
    one, other = noise(1), noise(2)
    assert distances.spectral_distance(one, other, RATE) < 3
    assert distances.spectral_distance(one, tone(440), RATE) > 20
    assert distances.onset_similarity(one, other, RATE) < 0.4
    assert distances.loudness(one, RATE) == pytest.approx(distances.loudness(other, RATE), abs=0.1)


def test_what_lies_below_the_floor_does_not_count():
    one = tone(440)
    assert distances.spectral_distance(one, one + noise(level=1e-7), RATE) < 1e-3


def test_chroma_knows_the_notes():
    classes = distances.chroma(chord(60, 64, 67), RATE)  # C, E, G
    loudest = set(np.argsort(classes[len(classes) // 2])[-3:])
    assert loudest == {0, 4, 7}


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("note", [45, 60, 69, 104])
def test_chroma_finds_a_note_at_any_rate(rate, note):
    classes = distances.chroma(tone(440 * 2 ** ((note - 69) / 12), rate=rate), rate)
    assert classes[len(classes) // 2].argmax() == note % 12


def test_chroma_resolves_a_semitone_but_no_octave():
    one = chord(57, 60, 64)
    assert distances.chroma_similarity(one, chord(58, 61, 65), RATE) < 0.55
    assert distances.chroma_similarity(one, chord(69, 72, 76), RATE) > 0.98
    up = np.roll(distances.chroma(one, RATE), 1, axis=1)
    other = distances.chroma(chord(58, 61, 65), RATE)
    assert distances.mean_cosine(up, other) > 0.98


def test_onsets_are_where_something_starts():
    strength = distances.onset_strength(clicks(0.5, late=RATE // 4), RATE)
    loud = np.flatnonzero(strength > strength.max() / 2) * distances.ONSET_HOP_SECONDS
    for moment in np.arange(0.25, 3, 0.5):
        assert np.abs(loud - moment).min() < 0.03


def test_rhythm_may_be_early_by_a_moment_but_not_by_more():
    one = clicks(0.5)
    assert distances.onset_similarity(one, clicks(0.5, late=RATE // 25), RATE) > 0.9
    assert distances.onset_similarity(one, clicks(0.5, late=RATE // 4), RATE) < 0.2
    assert distances.onset_similarity(one, clicks(0.37), RATE) < 0.5


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_loudness_is_that_of_the_standard(rate):
    """BS.1770: 997 Hz at full scale in one channel reads -3.01; in two, 3 LU more."""
    sine = tone(997, 1.0, rate=rate)
    assert distances.loudness(sine, rate) == pytest.approx(-3.01, abs=0.03)
    both = np.repeat(sine, 2, axis=1)
    assert distances.loudness(both, rate) == pytest.approx(0, abs=0.03)


def test_loudness_weighs_the_bass_less():
    assert distances.loudness(tone(30), RATE) < distances.loudness(tone(997), RATE) - 3


def test_loudness_leaves_out_silence():
    sine = tone(997)
    with_pause = np.concatenate([sine, np.zeros((10 * RATE, 1))])
    assert distances.loudness(with_pause, RATE) == pytest.approx(
        distances.loudness(sine, RATE), abs=0.5
    )


def test_silence_has_numbers_too():
    silence, sound = np.zeros((RATE, 1)), tone(440, seconds=1)
    assert distances.loudness(silence, RATE) == distances.SILENCE_LUFS
    assert sound_measures(silence, silence, RATE) == [0, 0, 1, 1, 0]
    for found in (sound_measures(silence, sound, RATE), sound_measures(sound, silence, RATE)):
        assert np.isfinite(found).all()
        assert found[MEASURES.index("chroma_similarity")] == 0


@pytest.mark.parametrize("length", [1, 100, 3200])
def test_a_moment_of_sound_has_numbers_too(length):
    found = sound_measures(noise()[:length], noise(1)[:length], RATE)
    assert np.isfinite(found).all()


def test_both_sides_of_stereo_count():
    left = noise(channels=2)
    right = left.copy()
    right[:, 1] = 0
    assert distances.spectral_distance(left, right, RATE) > 15
    assert distances.loudness(left, RATE) > distances.loudness(right, RATE) + 2.5


@pytest.mark.parametrize("size", distances.WINDOWS)
@pytest.mark.parametrize("rate", [16_000, 32_000, 48_000])
def test_no_mel_band_is_empty(size, rate):
    filters = distances.mel_filters(size, rate)
    np.testing.assert_allclose(filters.sum(axis=0), 1)
    assert (filters >= 0).all()
