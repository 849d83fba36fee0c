"""Music for toy models: codes by seed, some of them with words."""

import numpy as np
import pytest

from segue.quantization.calibration import CalibrationSet, Window


def windows(count, frames=24, seed=0, codebooks=4, cardinality=64):
    """Random codes; every other window has words."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, cardinality, (count, codebooks, frames)).astype(np.int32)
    texts = ["", "piano slow", "", "drums bass fast"]
    return tuple(Window(each, texts[n % 4], f"window {n}") for n, each in enumerate(codes))


@pytest.fixture
def music():
    return CalibrationSet(windows(8))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segue" / "gptq"
