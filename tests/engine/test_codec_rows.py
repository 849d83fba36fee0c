"""Takes and channels as rows of a mono codec."""

import numpy as np
import pytest

from segue.engine.codec_rows import (
    codes_of_rows,
    rows_of_codes,
    rows_of_samples,
    samples_of_rows,
)


@pytest.mark.parametrize("takes", [(), (1,), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [0, 7])
def test_rows_become_the_takes_that_they_were(takes, channels, length):
    codes = np.random.default_rng(0).integers(0, 9, (*takes, 4, length))
    samples = np.random.default_rng(1).standard_normal((*takes, length, channels))
    samples = samples.astype(np.float32)
    rows, heard = rows_of_codes(codes, channels), rows_of_samples(samples)
    count = int(np.prod(takes)) * channels
    assert rows.shape == (count, 4 // channels, length)
    assert heard.shape == (count, length)
    assert heard.flags.c_contiguous
    np.testing.assert_array_equal(codes_of_rows(rows, channels, takes), codes)
    np.testing.assert_array_equal(samples_of_rows(heard, channels, takes), samples)


def test_left_and_right_of_a_take_are_neighbours():
    codes = np.arange(8)[:, None].reshape(2, 4, 1)
    assert rows_of_codes(codes, 2)[..., 0].tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
