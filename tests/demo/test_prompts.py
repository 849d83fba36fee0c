"""The built-in prompts are music, and nothing but what was played."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from segue import audio

PROMPTS = sorted((Path(str(resources.files("segue.demo"))) / "prompts").glob("*.ogg"))


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_a_prompt_does_not_ring_at_half_its_rate(path: Path) -> None:
    """A synthesizer's filter near the edge of stability once did, for milliseconds, at -17 dB."""
    sound = audio.read(path)
    mono = sound.samples.mean(axis=1)
    windows = mono[: len(mono) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    bins = np.abs(np.fft.rfft(windows, axis=1)) / 256  # a sine of 1 gives 1
    hz = np.fft.rfftfreq(1024, 1 / sound.sample_rate)
    highest = bins[:, hz >= 15_400].max(axis=1)
    below = bins[:, (hz >= 12_000) & (hz < 15_000)].max(axis=1)
    assert not ((highest > 4 * below) & (highest > 1e-3)).any()
