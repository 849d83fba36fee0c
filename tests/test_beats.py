"""Beats that were found become a grid; how far beats lie from one is measured."""

import numpy as np
import pytest

from segue import AudioError, RequestError
from segue.audio import Audio, read
from segue.bars import Grid
from segue.beats import Beats, available, find_grid, grid_of, offsets, offsets_of
from segue.checkpoints.hub import built_in_folder


def beats(bpm, downbeat, count=24, metre=4, first=1, jitter=0.0, missing=()):
    """Beats of a steady tempo, rounded to 10 ms as the tracker's are."""
    rng = np.random.default_rng(0)
    numbers = np.array([n for n in range(count) if n not in missing])
    times = downbeat + (numbers - (first - 1)) * 60 / bpm + rng.normal(0, jitter, len(numbers))
    return Beats(np.round(times + 10 * 60 / bpm, 2), numbers % metre + 1)


@pytest.mark.parametrize("bpm", [60, 93, 120, 133, 174])
@pytest.mark.parametrize("metre", [3, 4])
def test_the_tempo_the_metre_and_the_downbeat_are_found(bpm, metre):
    found = grid_of(beats(bpm, 0.37, metre=metre, jitter=0.004, missing=(5, 11, 12)))
    assert (found.bpm, found.beats_per_bar) == (bpm, metre)
    bar = found.bar_seconds
    off = (found.downbeat - (0.37 + 10 * 60 / bpm) + bar / 2) % bar - bar / 2
    assert abs(off) < 0.01


def test_a_tempo_between_whole_numbers_stays_there():
    assert grid_of(beats(97.5, 0.1, count=64)).bpm == pytest.approx(97.5, rel=5e-4)


def test_beats_that_begin_within_a_bar_have_their_downbeat_all_the_same():
    found = grid_of(Beats(0.5 + 0.5 * np.arange(16), (np.arange(16) + 2) % 4 + 1))
    assert found.bpm == 120
    assert found.downbeat == pytest.approx(1.5, abs=0.001)


def test_no_beats_are_no_tempo():
    with pytest.raises(AudioError, match="only 2 beats are found"):
        grid_of(Beats(np.array([0.1, 0.6]), np.array([1, 2])))


def test_distances_from_the_grid_are_measured_either_way():
    grid = Grid(120, 4, 0.25)
    late = np.array([0.010, -0.020, 0.030, 0.0, 0.005])
    found = offsets_of(0.25 + 0.5 * np.arange(5) + late, grid)
    assert (found.beats, found.median_ms, found.worst_ms, found.mean_ms) == (5, 10.0, 30.0, 5.0)
    assert found.bpm == pytest.approx(120, abs=2)
    assert offsets_of(np.array([1.0, 1.5, 2.0]), grid) is None


def test_another_tempo_drifts_up_to_half_a_beat():
    found = offsets_of(np.arange(40) * 60 / 126, Grid(120))
    assert found.worst_ms == pytest.approx(250, abs=15)
    assert found.bpm == pytest.approx(126)


@pytest.mark.skipif(available(), reason="madmom-infer is here")
def test_without_the_tracker_the_line_says_how_to_get_it():
    with pytest.raises(RequestError, match=r"pip install 'segue\[beats\]'; or type the tempo"):
        find_grid(Audio(np.zeros((44_100, 1), np.float32), 44_100))


@pytest.mark.skipif(not available(), reason="no madmom-infer here: pip install 'segue[beats]'")
def test_the_tempo_and_the_bars_of_a_built_in_prompt_are_found():
    folder = built_in_folder().parent / "prompts"
    try:
        found = find_grid(read(folder / "rock.ogg"))
    except RequestError as error:
        pytest.skip(f"no networks of madmom-infer here: {error}")
    assert (found.bpm, found.beats_per_bar) == (131, 4)
    assert found.downbeat == pytest.approx(1.2914, abs=0.01)  # of the score it was rendered from


@pytest.mark.skipif(not available(), reason="no madmom-infer here: pip install 'segue[beats]'")
def test_the_beats_of_a_recording_lie_on_its_own_grid_wherever_it_is_measured_from():
    sound = read(built_in_folder().parent / "prompts" / "electronic.ogg")
    grid = Grid(133, 4, 1.2811)  # of the score it was rendered from
    try:
        found = offsets(sound, grid, 2 * sound.sample_rate)
        late = Audio(
            np.pad(sound.samples, [(20 * sound.sample_rate, 0), (0, 0)]), sound.sample_rate
        )
        moved = offsets(late, Grid(133, 4, (20 + 1.2811) % grid.bar_seconds), 22 * late.sample_rate)
    except RequestError as error:
        pytest.skip(f"no networks of madmom-infer here: {error}")
    for each in (found, moved):
        assert each.beats >= 12
        assert each.median_ms < 20
        assert each.bpm == pytest.approx(133, abs=1)
