import numpy as np
import pytest

from segue.pattern import UNKNOWN, complete_frames, delay, first_unknown, undelay

MONO = (0, 1, 2, 3)
STEREO = (0, 0, 1, 1, 2, 2, 3, 3)
SPECIAL = 99


def codes(delays, frames, takes=()):
    return np.random.default_rng(0).integers(0, 64, (*takes, len(delays), frames), np.int32)


def test_mono_codebooks_run_one_step_later_each_behind_a_special_column():
    sequence = delay(np.array([[10, 11], [20, 21], [30, 31], [40, 41]]), MONO, SPECIAL)
    assert sequence.tolist() == [
        [99, 10, 11, 99, 99, 99],
        [99, 99, 20, 21, 99, 99],
        [99, 99, 99, 30, 31, 99],
        [99, 99, 99, 99, 40, 41],
    ]


def test_stereo_codebooks_run_late_in_pairs_of_left_and_right():
    sequence = delay(np.array([[10, 11], [20, 21], [30, 31], [40, 41]]), (0, 0, 1, 1), SPECIAL)
    assert sequence.tolist() == [
        [99, 10, 11, 99],
        [99, 20, 21, 99],
        [99, 99, 30, 31],
        [99, 99, 40, 41],
    ]


def test_undelay_reads_the_picture_back():
    sequence = np.array([[99, 1, 2, 3, 99, 99], [99, 99, 4, 5, 6, 99], [99, 99, 99, 7, 8, 9]])
    assert undelay(sequence, (0, 1, 2)).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("delays", [MONO, STEREO, (0,), (0, 3, 1)])
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("takes", [(), (3,)])
def test_undelay_undoes_delay(delays, frames, takes):
    before = codes(delays, frames, takes)
    sequence = delay(before, delays, SPECIAL)
    assert sequence.shape == (*takes, len(delays), frames + max(delays) + 1)
    assert sequence.dtype == before.dtype
    assert np.array_equal(undelay(sequence, delays), before)


def test_special_tokens_stand_wherever_a_codebook_has_no_code_and_nowhere_else():
    sequence = delay(codes(STEREO, 20), STEREO, SPECIAL)
    assert (sequence == SPECIAL).sum() == sequence.size - 8 * 20
    for k, late in enumerate(STEREO):
        assert (sequence[k, : late + 1] == SPECIAL).all()
        assert (sequence[k, late + 21 :] == SPECIAL).all()


@pytest.mark.parametrize("delays", [MONO, STEREO])
def test_the_first_unknown_column_is_the_one_in_which_codebook_0_ends(delays):
    before = codes(delays, 10)
    before[:, 6:] = UNKNOWN
    assert first_unknown(delay(before, delays, SPECIAL)) == 7


def test_one_unknown_entry_in_one_take_counts():
    sequence = delay(codes(MONO, 10, (3,)), MONO, SPECIAL)
    sequence[2, 3, 9] = UNKNOWN
    assert first_unknown(sequence) == 9


def test_a_known_sequence_has_its_first_unknown_column_behind_its_end():
    sequence = delay(codes(MONO, 10), MONO, SPECIAL)
    assert first_unknown(sequence) == sequence.shape[1] == 14


@pytest.mark.parametrize(("columns", "frames"), [(0, 0), (1, 0), (4, 0), (5, 1), (6, 2), (14, 10)])
def test_a_frame_is_complete_with_its_most_delayed_codebook(columns, frames):
    assert complete_frames(columns, MONO) == frames


@pytest.mark.parametrize("delays", [MONO, STEREO])
def test_complete_frames_are_those_that_undelay_finds_no_unknown_in(delays):
    sequence = delay(codes(delays, 12), delays, SPECIAL)
    for columns in range(sequence.shape[1] + 1):
        partly = sequence.copy()
        partly[:, columns:] = UNKNOWN
        whole = (undelay(partly, delays) != UNKNOWN).all(axis=0)
        assert complete_frames(columns, delays) == whole.sum()
