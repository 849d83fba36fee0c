"""A stream is the continuation's sound while it is generated."""

import numpy as np
import pytest

from segue import RequestError


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(0, 0.1, (round(seconds * rate), channels)).astype(np.float32)


OPTIONS = {"prompt_seconds": 1, "output_seconds": 6.5, "seed": 1}


@pytest.mark.parametrize(("rate", "channels"), [(32_000, 1), (44_100, 2), (11_025, 1)])
def test_the_chunks_are_as_long_as_the_continuation_and_sound_like_it(model, rate, channels):
    samples = noise(2, rate, channels)
    result = model.continue_audio(samples, rate, **OPTIONS)
    exact = result.takes[0].audio.samples[result.join :]
    chunks = list(model.stream(samples, rate, **OPTIONS))
    assert len(chunks) > 2
    streamed = np.concatenate(chunks)
    assert streamed.shape == exact.shape
    assert streamed.dtype == np.float32
    rms = np.sqrt((exact**2).mean())
    assert np.sqrt(((streamed - exact)[rate // 10 :] ** 2).mean()) < 0.05 * rms
    # At the join it is cross-faded from the same samples, so it begins alike.
    assert np.sqrt(((streamed - exact)[: rate // 200] ** 2).mean()) < 0.05 * rms


def test_the_first_chunk_comes_before_the_music_is_done(model):
    shown = []

    class Watch:
        def stage(self, name, total=None, unit=""):
            from contextlib import contextmanager

            @contextmanager
            def stage():
                yield lambda done, total=None: shown.append((name, done))

            return stage()

    chunks = model.stream(noise(2, 32_000, 1), 32_000, progress=Watch(), **OPTIONS)
    next(chunks)
    frames = max(done for name, done in shown if name == "generate")
    assert frames < 100  # of 275
    chunks.close()


def test_a_stream_has_one_take(model):
    with pytest.raises(RequestError, match="one variation"):
        model.stream(noise(2, 32_000, 1), 32_000, variations=2)
