"""A continuation heard before it is done."""

import numpy as np
import pytest

from segue import Audio, Continuation, Request
from segue.preview import FIRST_FRAMES, LOOKAHEAD_FRAMES, Preview


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
