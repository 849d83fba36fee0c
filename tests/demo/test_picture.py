import struct

import numpy as np
import pytest

from segue.audio import Audio
from segue.demo.picture import FLOOR_DB, draw, spectrogram_db

RATE = 32_000


def test_a_tone_is_a_line_at_its_pitch_for_as_long_as_it_sounds():
    time = np.arange(2 * RATE) / RATE
    tone = np.where(time < 1, np.sin(2 * np.pi * 4000 * time), 0)
    decibels = spectrogram_db(tone)
    rows, columns = decibels.shape
    sounding = decibels[:, columns // 4]
    assert np.argmax(sounding) == round(4000 / (RATE / 2) * (rows - 1))
    assert np.max(sounding) == pytest.approx(0, abs=1)
    assert np.max(decibels[:, 3 * columns // 4]) < FLOOR_DB


@pytest.mark.parametrize("samples", [100, 3 * RATE])
def test_a_picture_is_a_png_of_one_size(samples, tmp_path):
    pytest.importorskip("matplotlib")
    audio = Audio(np.random.default_rng(0).uniform(-1, 1, (samples, 2)).astype(np.float32), RATE)
    draw(audio, samples // 2, tmp_path / "it.png")
    header = (tmp_path / "it.png").read_bytes()[:24]
    assert header[1:4] == b"PNG"
    assert struct.unpack(">II", header[16:]) == (1200, 600)
