"""The codec of every engine: takes together, alone and in pieces."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from segue.checkpoints.config import CodecConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine.mlx import MLXEngine, codec_pieces
from segue.engine.pieces import context, pieces, widest
from segue.errors import ModelOverflowError

from ..broken import broken

BOUND = 1e-5
"""What a take may differ by from itself alone, as `Engine.decode` says."""


@pytest.fixture(scope="module", params=["mlx", "openvino"])
def engine(request, toy_stereo):
    if request.param == "mlx":
        return MLXEngine(open_checkpoint(str(toy_stereo)))
    pytest.importorskip("openvino")
    from segue.engine.openvino import OpenVINOEngine

    return OpenVINOEngine(open_checkpoint(str(toy_stereo)))


def codes_of(engine, *shape):
    lm = engine.config.lm
    random = np.random.default_rng(len(shape))
    return random.integers(0, lm.cardinality, (*shape[:-1], lm.num_codebooks, shape[-1]), np.int32)


@pytest.mark.parametrize("takes", [1, 2, 5, 9])
def test_a_take_is_the_same_alone_and_in_a_batch(engine, takes):
    codes, done = codes_of(engine, takes, 12), []
    samples = engine.decode(codes, done.append)
    assert samples.shape == (takes, 12 * 640, 2)
    assert done[-1] == takes
    assert done == sorted(done)
    for n in range(takes):
        alone = engine.decode(codes[n])
        assert alone.shape == samples.shape[1:]
        np.testing.assert_allclose(samples[n], alone, rtol=0, atol=BOUND)
    again = engine.encode(samples)
    assert again.shape == codes.shape
    np.testing.assert_array_equal(again[-1], engine.encode(samples[-1]))


def test_any_axes_may_come_first(engine):
    codes = codes_of(engine, 2, 3, 4)
    samples = engine.decode(codes)
    assert samples.shape == (2, 3, 4 * 640, 2)
    np.testing.assert_allclose(samples[1, 2], engine.decode(codes[1, 2]), rtol=0, atol=BOUND)
    assert engine.encode(samples).shape == codes.shape
    for none in (codes[:0, 0], codes[0, 0][..., :0]):
        assert engine.decode(none).size == engine.encode(engine.decode(none)).size == 0


class Noting:
    """A codec that notes the shape of what it is given."""

    def __init__(self, codec):
        self._codec, self.remembered, self.synthesized = codec, [], []
        self.config, self.fused = codec.config, codec.fused

    def remember(self, codes):
        self.remembered.append(codes.shape[::2])
        return self._codec.remember(codes)

    def synthesize(self, hidden):
        self.synthesized.append(hidden.shape[:2])
        return self._codec.synthesize(hidden)


@pytest.mark.parametrize(("takes", "frames"), [(1, 130), (7, 20), (3, 61)])
def test_whatever_is_decoded_is_decoded_in_pieces_of_a_bounded_size(
    toy, monkeypatch, takes, frames
):
    engine = MLXEngine(open_checkpoint(str(toy)))
    codes = codes_of(engine, takes, frames)
    whole = engine.decode(codes)
    noting: Any = Noting(engine.codec)
    monkeypatch.setattr(codec_pieces, "FRAMES_CONVOLVED", 40)
    monkeypatch.setattr(codec_pieces, "FRAMES_REMEMBERED", 100)
    found = codec_pieces.decode(noting, codes)
    np.testing.assert_allclose(found[..., None], whole, rtol=0, atol=BOUND)
    around = 2 * context(noting.config) + widest(noting.config)
    assert max(rows * length for rows, length in noting.synthesized) <= 40 + around
    assert max(rows * length for rows, length in noting.remembered) <= max(100, frames)
    assert sum(rows for rows, _ in noting.remembered) == takes


def test_pieces_lie_side_by_side_with_their_context_around_them():
    config = CodecConfig()
    around = context(config)
    for frames in (1, 99, 100, 101, 107, 108, 1500):
        found = list(pieces(frames, 100, config))
        assert found[0].start == 0
        assert found[-1].stop == frames
        assert all(one.stop == two.start for one, two in pairwise(found))
        for piece in found:
            assert piece.first == max(0, piece.start - around)
            assert piece.last == min(frames, piece.stop + around)
            part = np.arange(piece.first * 3, piece.last * 3)[piece.within(3)]
            np.testing.assert_array_equal(part, np.arange(piece.start * 3, piece.stop * 3))


def test_one_take_that_overflows_ends_all(toy, tmp_path):
    """That codes stand for a number that is too large shows in the samples alone."""
    name = "audio_encoder.quantizer.layers.0.codebook.embed"
    folder = broken(toy, tmp_path / "broken", name, 3e38, at=3)
    engine = MLXEngine(open_checkpoint(str(folder)))
    codes = np.zeros((3, 4, 5), np.int32)
    assert np.isfinite(engine.decode(codes)).all()
    codes[1, 0, 2] = 3
    with pytest.raises(ModelOverflowError, match="samples"):
        engine.decode(codes)
