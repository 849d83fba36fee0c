"""Threads that generate at the same time take turns on a device, and disturb each other nowhere.

That two launches of a kernel with grid barriers do not meet on a GPU follows from what is tested
here: all steps are submitted to one stream, by one thread at a time.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.decoding import decode, prefill
from segue.engine.mlx.sampling import Sampler, controls
from segue.engine.mlx.step import Step

from .test_mlx import prompt_of

SAMPLING = Sampling(top_k=20)
LIMIT_S = 120
"""How long a test waits for a thread that would otherwise wait for ever."""


@pytest.fixture(scope="module")
def engine(toy):
    return MLXEngine(open_checkpoint(str(toy)))


class Watched:
    """A step that notes who runs it, on which stream, and whether somebody else does meanwhile."""

    def __init__(self, step):
        self._step, self._inside = step, 0
        self.overlaps, self.streams, self.threads = 0, set(), []

    def __call__(self, *arguments):
        self._inside += 1
        self.overlaps += self._inside > 1
        time.sleep(0.001)  # others run now, if they may
        self.streams.add(str(mx.default_stream(mx.default_device())))
        self.threads.append(threading.get_ident())
        found = self._step(*arguments)
        self._inside -= 1
        return found


def columns_of(engine, run, seed, sequence):
    """What `Engine.prefill` returns, with another step."""
    step, numbers = Step(engine.lm, Sampler.of(SAMPLING)), controls(SAMPLING)
    start = prefill(
        lm=engine.lm,
        step=step,
        sequence=sequence[None],
        seeds=(seed,),
        controls=numbers,
        cross=None,
        prefix=None,
        first_step=0,
        in_place=False,
    )
    return decode(
        lm=engine.lm, run=run, start=start, controls=numbers, in_place=False, columns_per_read=1
    )


def in_threads(*tasks):
    """The results of tasks that begin together, each in a thread of its own."""
    ready = threading.Barrier(len(tasks))

    def run(task):
        try:
            ready.wait(LIMIT_S)
            return task()
        finally:
            mx.clear_streams()  # or MLX ends the process when the thread ends

    with ThreadPoolExecutor(len(tasks)) as threads:
        return [each.result(LIMIT_S) for each in [threads.submit(run, task) for task in tasks]]


def test_two_threads_never_submit_a_step_at_once_and_use_one_stream(engine):
    watched = Watched(Step(engine.lm, Sampler.of(SAMPLING)))
    sequence = prompt_of(engine, 10, 50)
    alone = [list(engine.prefill(sequence[None], (seed,), SAMPLING)) for seed in (1, 2)]
    found = in_threads(
        *(lambda seed=seed: list(columns_of(engine, watched, seed, sequence)) for seed in (1, 2))
    )
    for ours, theirs in zip(found, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert watched.overlaps == 0
    assert len(watched.streams) == 1
    switches = np.diff(watched.threads) != 0
    assert switches.sum() > 1  # they really ran beside each other


def test_a_generator_that_is_left_alone_keeps_nobody_waiting(engine):
    sequence = prompt_of(engine, 10, 50)[None]
    suspended = engine.prefill(sequence, (1,), SAMPLING)
    first = next(suspended)
    dropped = engine.prefill(sequence, (1,), SAMPLING)
    next(dropped)
    del dropped
    (whole,) = in_threads(lambda: list(engine.prefill(sequence, (1,), SAMPLING)))
    np.testing.assert_array_equal([first, *suspended], whole)


def test_a_step_that_fails_keeps_nobody_waiting(engine):
    def failing(*arguments):
        raise MemoryError("no room")

    sequence = prompt_of(engine, 10, 50)
    with pytest.raises(MemoryError):
        list(columns_of(engine, failing, 1, sequence))
    in_threads(lambda: list(engine.prefill(sequence[None], (1,), SAMPLING)))


@pytest.mark.parametrize("name", ["mlx", "openvino"])
@pytest.mark.parametrize("text", ["", "drums piano"])
def test_requests_of_two_threads_give_what_they_give_alone(toy, tmp_path, name, text):
    """Also of a model whose weights and text encoder are first read by both at once."""
    pytest.importorskip(name)
    save_quantized(open_checkpoint(str(toy)), Recipe(bits=8), tmp_path / "q")
    samples = np.random.default_rng(0).normal(0, 0.1, (32_000, 1)).astype(np.float32)

    def codes(model, seed):
        options = {"prompt_seconds": 0.5 + 0.1 * seed, "output_seconds": 2, "variations": seed}
        result = model.continue_audio(samples, 32_000, text=text, seed=seed, **options)
        return np.stack([take.codes[:, 35:] for take in result.takes])

    alone = segue.load(str(tmp_path / "q"), engine=name)
    expected = [codes(alone, seed) for seed in (1, 2)]
    model = segue.load(str(tmp_path / "q"), engine=name)
    found = in_threads(*(lambda seed=seed: codes(model, seed) for seed in (1, 2)))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_generator_may_go_on_in_another_thread(engine):
    sequence = prompt_of(engine, 10, 50)[None]
    whole = list(engine.prefill(sequence, (1,), SAMPLING))
    columns = engine.prefill(sequence, (1,), SAMPLING)
    first = next(columns)
    (rest,) = in_threads(lambda: list(columns))
    np.testing.assert_array_equal([first, *rest], whole)
