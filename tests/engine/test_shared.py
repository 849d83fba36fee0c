"""Threads that share an engine's steps: each has what it has alone, and none waits for ever."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue.audio import from_array
from segue.continuation import Continuation, Request, continue_audio
from segue.engine.base import Sampling
from segue.engine.shared import SharedEngine
from segue.errors import ModelOverflowError

from ..broken import broken
from .batches import MIXED, Asked
from .engines import ENGINES, require

LIMIT_S = 120
"""How long a test waits for a thread that would otherwise wait for ever."""


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, toy):
    require(request.param)
    return segue.load(str(toy), engine=request.param).engine


def in_threads(*tasks):
    """The results of tasks, each in a thread of its own."""

    def run(task):
        try:
            return task()
        finally:
            mx.clear_streams()  # or MLX ends the process when the thread ends

    with ThreadPoolExecutor(len(tasks)) as threads:
        return [each.result(LIMIT_S) for each in [threads.submit(run, task) for task in tasks]]


@pytest.mark.slow
@pytest.mark.parametrize("max_rows", [1, 5, 64])
def test_threads_have_what_they_have_alone_in_however_large_a_batch(engine, max_rows):
    shared = SharedEngine(engine, max_rows)
    found = in_threads(*(lambda asked=asked: asked.alone(shared) for asked in MIXED))
    for columns, asked in zip(found, MIXED, strict=True):
        np.testing.assert_array_equal(columns, asked.alone(engine), err_msg=str(asked))
    assert shared.rows == 0
    steps = sum(asked.total for asked in MIXED)
    assert shared.rows_run > shared.steps or max_rows == 1
    assert shared.steps < steps


def test_nobody_waits_for_a_thread_that_stops_taking_columns(engine):
    """Those who stop, at any column, may be the ones that run the steps, and never come back."""
    shared = SharedEngine(engine, 16)
    asked = [Asked(5, 40, (n,), Sampling(20)) for n in range(9)]
    held = []

    def take(n):
        columns = shared.prefill(*asked[n].arguments(engine))
        held.append(columns)
        count = 7 * n if n % 3 else 40
        return [column for column, _ in zip(columns, range(count), strict=False)]

    found = in_threads(*(lambda n=n: take(n) for n in range(9)))
    for n in (0, 3, 6):
        np.testing.assert_array_equal(found[n], asked[n].alone(engine))
    del held[:]
    assert shared.rows == 0


def test_who_waits_joins_before_the_next_step(engine):
    shared = SharedEngine(engine, 4)
    long, short = Asked(5, 200, (1,), Sampling(20)), Asked(5, 30, (2,), Sampling(20))
    columns = long.arguments(shared)
    running = shared.prefill(*columns)
    next(running)
    (found,) = in_threads(lambda: short.alone(shared))
    np.testing.assert_array_equal(found, short.alone(engine))
    assert shared.rows == 1  # it ran without its neighbour's thread
    assert len(list(running)) == len(long.alone(engine)) - 1


def test_requests_wait_for_room_in_their_order(engine):
    shared = SharedEngine(engine, 2)
    first = shared.prefill(*Asked(5, 60, (1, 2), Sampling(20)).arguments(engine))
    begun, order, joined = threading.Event(), [], threading.Event()

    def wait(name, seeds):
        columns = shared.prefill(*Asked(5, 30, seeds, Sampling(20)).arguments(engine))
        order.append(name)
        if len(order) == 2:
            joined.set()
        return list(columns)

    def large():
        begun.set()
        return wait("large", (3, 4))

    def small():
        assert begun.wait(LIMIT_S)
        while not shared.waiting:
            time.sleep(0.001)
        return wait("small", (5,))

    def finish():
        while shared.waiting < 2:
            time.sleep(0.001)
        return list(first)

    found = in_threads(large, small, finish)
    assert order == ["large", "small"]
    assert [len(columns) for columns in found] == [28, 28, 58]


def test_what_is_dropped_leaves_begun_or_not(engine):
    shared = SharedEngine(engine, 4)
    for asked in MIXED[:2]:
        columns = shared.prefill(*asked.arguments(engine))
        assert shared.rows > 0
        if asked is MIXED[0]:
            next(columns)
        del columns
        assert shared.rows == 0
    assert len(MIXED[2].alone(shared)) == len(MIXED[2].alone(engine))


def test_an_error_in_one_thread_is_that_thread_s(toy, tmp_path, engine):
    bad, good = Asked(5, 60, (1,), Sampling(0, 5.0)), Asked(5, 60, (2,), Sampling(1))
    drawn, fine = ([c[0, 0] for c in asked.alone(engine)] for asked in (bad, good))
    start = good.arguments(engine)[0][0, 0]
    token = next(token for token in drawn if token not in fine and token not in start)
    embedding = "decoder.model.decoder.embed_tokens.0.weight"
    folder = broken(toy, tmp_path / "broken", embedding, at=token)
    shared = SharedEngine(segue.load(folder, engine=engine.name).engine, 8)

    def run(asked):
        try:
            return len(asked.alone(shared))
        except ModelOverflowError:
            return "overflow"

    found = in_threads(lambda: run(bad), lambda: run(good))
    assert found == ["overflow", 58]
    assert shared.rows == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_continuations_beyond_the_window_share_steps_too(toy, name):
    require(name)
    engine = segue.load(str(toy), engine=name).engine
    engine.config = replace(engine.config, lm=replace(engine.config.lm, window_frames=60))
    samples = np.random.default_rng(0).normal(0, 0.1, (32_000, 1)).astype(np.float32)
    requests = [
        Request(from_array(samples, 32_000), 0.4, 2.0, seed=1),
        Request(from_array(samples, 32_000), 0.5, 1.5, seed=2, text="drums", variations=2),
        Request(from_array(samples, 32_000), 0.6, 0.9, seed=3, top_k=5, temperature=0.5),
    ]
    shared = SharedEngine(engine, 8)
    found = in_threads(*(lambda r=r: continue_audio(shared, r) for r in requests))
    for result, request in zip(found, requests, strict=True):
        for ours, theirs in zip(result.takes, continue_audio(engine, request).takes, strict=True):
            np.testing.assert_array_equal(ours.codes, theirs.codes)
            np.testing.assert_array_equal(ours.audio.samples, theirs.audio.samples)
    assert shared.rows == 0


def test_a_continuation_that_is_stopped_leaves(engine):
    shared = SharedEngine(engine, 4)
    samples = np.random.default_rng(0).normal(0, 0.1, (32_000, 1)).astype(np.float32)
    running = Continuation(shared, Request(from_array(samples, 32_000), 0.4, 3.0, seed=1))
    frames = running.frames()
    next(frames)
    assert shared.rows == 1
    del frames
    assert shared.rows == 0
