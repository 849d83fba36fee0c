"""What takes hold in memory is reckoned before they run, and those that do not fit take turns."""

import mlx.core as mx
import numpy as np
import pytest

from segue.checkpoints.config import LMConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine import mlx
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, decoding
from segue.engine.mlx import cache as kv_cache
from segue.engine.mlx.footprint import Footprint, footprint, takes_at_once
from segue.pattern import first_unknown

from .test_mlx import prompt_of

LARGE = LMConfig(2048, 48, 32, 8192, 4, 2048)
GB = 10**9


def of_large(takes, **changes):
    options = {"guided": False, "known": 303, "length": 1504} | changes
    return footprint(LARGE, 2, takes, **options)


def test_keys_and_values_are_of_every_position_of_every_row():
    one = of_large(1)
    assert one.cache == 48 * 2 * 2048 * 1536 * 2
    assert of_large(64).cache == 64 * one.cache
    assert of_large(64, guided=True).cache == 128 * one.cache
    assert of_large(64, length=303).cache == of_large(64).cache // 3


def test_64_takes_of_the_large_shape_fit_on_a_card_of_80_gb_and_guided_ones_take_turns():
    card = 76 * GB - 5 * GB  # without the weights in float16
    assert takes_at_once(64, card, of_large) == 64
    assert of_large(64).total == pytest.approx(1.1 * of_large(64).cache, rel=0.05)

    def guided(n):
        return of_large(n, guided=True, tokens=16)

    assert takes_at_once(64, card, guided) == 32
    assert guided(32).total <= card < guided(64).total


def test_a_cache_that_grows_is_there_twice():
    grows, stays = of_large(8, in_place=False), of_large(8)
    assert grows.growing == grows.cache
    assert stays.growing < stays.cache / 4


def test_a_text_is_folded_once_or_kept_for_every_row():
    short, many = of_large(1, guided=True, tokens=16), of_large(64, guided=True, tokens=16)
    assert short.text == 48 * 3 * 32 * 16 * 2048 * 2
    assert many.text == 48 * 2 * 128 * 16 * 2048 * 2
    assert of_large(1).text == 0


@pytest.mark.parametrize(
    ("wanted", "fitting", "at_once"), [(1, 0, 1), (7, 7, 7), (7, 6, 4), (7, 3, 3), (64, 63, 32)]
)
def test_takes_that_do_not_fit_are_shared_out_evenly(wanted, fitting, at_once):
    def of(takes):
        return Footprint(cache=takes, growing=0, prefill=0, noise=0, text=0, logits=0)

    assert takes_at_once(wanted, fitting, of) == at_once


def played(engine, sequence, sampling, seeds):
    return np.stack(list(engine.prefill(sequence, seeds, sampling)))


@pytest.mark.parametrize("shared", [True, False])
def test_takes_that_take_turns_are_the_same(toy, monkeypatch, shared):
    engine = MLXEngine(open_checkpoint(str(toy)))
    sequence = prompt_of(engine, 10, 40)[None]
    seeds = (4, 5, 6, 7, 8)
    if not shared:
        sequence = np.repeat(sequence, len(seeds), axis=0)
        sequence[1, :, 3] = sequence[1, :, 2]
    sampling = Sampling(20, 1.0, 2.0)
    at_once = played(engine, sequence, sampling, seeds)
    three = engine.footprint(
        3,
        sampling,
        known=first_unknown(sequence),
        length=sequence.shape[-1],
        starts=1 if shared else 3,
    ).total
    limit = mx.get_active_memory() + three + 1000
    monkeypatch.setattr(mx, "get_memory_limit", lambda: limit)
    rows, run = [], decoding.prefill

    def recording(**options):
        rows.append(len(options["seeds"]))
        return run(**options)

    monkeypatch.setattr(mlx, "prefill", recording)
    np.testing.assert_array_equal(played(engine, sequence, sampling, seeds), at_once)
    assert rows == [3, 2]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_a_cache_is_widened_layer_by_layer(large, monkeypatch):
    monkeypatch.setattr(kv_cache, "LARGE_BYTES", large)
    cache = [mx.random.normal((2, 2, 3, 8, 4)) for _ in range(3)]
    kept = [np.array(kv) for kv in cache]
    found = kv_cache.widened(cache, 2, 11)
    assert cache == []
    for before, after in zip(kept, found, strict=True):
        assert after.shape == (4, 2, 3, 11, 4)
        np.testing.assert_array_equal(after[:, :, :, :8], np.repeat(before, 2, axis=0))
        assert not np.array(after[:, :, :, 8:]).any()
