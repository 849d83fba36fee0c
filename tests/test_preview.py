"""A continuation heard before it is done."""

from typing import Any

import numpy as np
import pytest

from segue import Audio, Continuation, Request
from segue.preview import CONTEXT_FRAMES, FIRST_FRAMES, FRAMES, LOOKAHEAD_FRAMES, Preview


@pytest.mark.parametrize(("rate", "channels"), [(32_000, 1), (44_100, 2), (48_000, 1)])
def test_window_by_window_it_sounds_like_the_whole(model, rate, channels):
    samples = np.random.default_rng(0).normal(0, 0.1, (2 * rate, channels)).astype(np.float32)
    request = Request(
        Audio(samples, rate), prompt_seconds=1, output_seconds=8, seed=1, variations=2
    )
    continuation = Continuation(model.engine, request)
    preview = Preview(model.engine, continuation.prompt_codes.shape[1], rate, channels)
    heard = [
        new for _ in continuation.frames() if (new := preview.more(continuation.codes)) is not None
    ]
    assert len(heard) > 3
    assert all(new.shape[::2] == (2, channels) for new in heard)
    streamed = np.concatenate(heard, axis=1)
    takes = continuation.result().takes
    for n, take in enumerate(takes):
        exact = take.played.samples[rate : rate + streamed.shape[1]]
        error = (streamed[n] - exact)[rate // 10 :]
        assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((exact**2).mean())


def test_the_first_second_comes_as_soon_as_there_is_one(model):
    codes = np.zeros((1, 4, 50 + FIRST_FRAMES + LOOKAHEAD_FRAMES), np.int32)
    preview = Preview(model.engine, 50, 32_000, 1)
    assert preview.more(codes[..., :-1]) is None
    assert preview.more(codes).shape == (1, 32_000, 1)
    assert preview.more(codes) is None


class Recording:
    """An engine that notes how many frames it decodes at a time."""

    def __init__(self, engine):
        self.config, self.frames, self._engine = engine.config, [], engine

    def decode(self, codes):
        self.frames.append(codes.shape[-1])
        return self._engine.decode(codes)


@pytest.mark.parametrize("last", [False, True])
def test_who_listens_late_hears_the_same_and_no_more_than_a_window_is_decoded_at_a_time(
    model, last
):
    codes = np.random.default_rng(0).integers(0, 64, (1, 4, 1030), np.int32)
    engines: list[Any] = [Recording(model.engine) for _ in range(2)]
    often, once = (Preview(engine, 30, 44_100, 2) for engine in engines)
    chunks = [often.more(codes[..., :n]) for n in range(31, codes.shape[2])]
    chunks.append(often.more(codes, last))
    late = once.more(codes, last)
    parts = np.concatenate([chunk for chunk in chunks if chunk is not None], axis=1)
    # A resampler holds back what it needs of the next chunk, here and there a sample more.
    length = min(late.shape[1], parts.shape[1])
    assert abs(late.shape[1] - parts.shape[1]) <= (0 if last else 2)
    np.testing.assert_allclose(late[:, :length], parts[:, :length], atol=1e-6)
    most = CONTEXT_FRAMES + FRAMES + LOOKAHEAD_FRAMES
    assert max(engines[1].frames) <= most
    assert engines[0].frames == engines[1].frames
