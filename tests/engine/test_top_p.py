"""Nucleus sampling: the likeliest tokens that have a probability together, on both engines."""

import mlx.core as mx
import numpy as np
import pytest

from segue.engine.base import Sampling
from segue.engine.mlx.sampling import Sampler, controls, noise

SHARES = np.array([0.05, 0.4, 0.15, 0.3, 0.1], np.float32)
LOGITS = np.log(SHARES)[None, None]


def by_mlx(logits, step, sampling):
    gumbel = noise(mx.array([0], mx.uint32), mx.array([step], mx.uint32), *logits.shape[1:])
    return np.array(Sampler.of(sampling)(mx.array(logits), gumbel, controls(sampling)))


def by_numpy(logits, step, sampling):
    openvino = pytest.importorskip("segue.engine.cpu.sampling")
    return openvino.sample(logits, step, (0,), sampling)


@pytest.mark.parametrize("draw", [by_mlx, by_numpy])
@pytest.mark.parametrize(
    ("top_p", "kept"),
    # As AudioCraft's sample_top_p: the one that reaches it takes part.
    [
        (0.01, {1}),
        (0.39, {1}),
        (0.45, {1, 3}),
        (0.72, {1, 2, 3}),
        (0.9, {1, 2, 3, 4}),
        (1, {*range(5)}),
    ],
)
def test_the_likeliest_take_part_until_they_have_the_probability(draw, top_p, kept):
    sampling = Sampling(top_k=1, top_p=top_p)  # whose top-k does not count then
    assert {int(draw(LOGITS, step, sampling)[0, 0]) for step in range(200)} == kept


def test_shares_are_counted_at_the_temperature():
    cold = Sampling(top_p=0.6, temperature=0.5)  # 0.4² is 0.56 of the sum of the squares
    assert {int(by_numpy(LOGITS, step, cold)[0, 0]) for step in range(200)} == {1, 3}
    colder = Sampling(top_p=0.6, temperature=0.25)
    assert {int(by_numpy(LOGITS, step, colder)[0, 0]) for step in range(200)} == {1}


def test_both_engines_draw_the_same():
    logits = np.random.default_rng(0).standard_normal((1, 4, 64)).astype(np.float32)
    sampling = Sampling(top_p=0.83, temperature=1.1)
    for step in range(50):
        found = by_mlx(logits, step, sampling), by_numpy(logits, step, sampling)
        np.testing.assert_array_equal(*found)


def test_without_it_the_graph_is_what_it_was():
    assert Sampler.of(Sampling(top_k=30)) == Sampler(30, guided=False)
    assert Sampler.of(Sampling(top_p=0.9, temperature=0)) == Sampler(1, guided=False)
