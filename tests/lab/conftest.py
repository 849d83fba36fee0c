"""Music for the laboratory's tests."""

import numpy as np
import pytest
import soundfile


@pytest.fixture
def song(tmp_path):
    """Two seconds of 24-bit stereo."""
    path = tmp_path / "song.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, (88_200, 2))
    soundfile.write(path, samples, 44_100, "PCM_24")
    return path
