"""Kernels are found out before a step runs, so that they compile while a model is read."""

import threading
from concurrent.futures import Future
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from segue.checkpoints.arrays import read_stacked
from segue.checkpoints.config import LMConfig
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.recipe import Recipe
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, kernels, weights
from segue.engine.mlx.codec import Codec
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.kernels.compiling import Compiler
from segue.engine.mlx.lm import LM
from segue.engine.mlx.lookups import Lookup
from segue.engine.mlx.preparing import codec_kernels_of, kernels_of, wait_for
from segue.engine.mlx.sampling import Sampler
from segue.engine.mlx.step import Step
from segue.errors import RequestError
from segue.progress import Progress

ALL = frozenset(kernels.NAMES)


@pytest.fixture
def card(monkeypatch):
    """A machine that has a GPU to compile for, and launches nothing."""
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 99 << 10, True))


def model(bits=4):
    lm = LM(LMConfig(64, 3, 2, 128, 4, 64), 32)
    if bits:
        nn.quantize(lm, 32, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
    return lm


def record_launches(monkeypatch):
    """The names of kernels that are launched from now on, as keys."""
    launched = {}

    def launch(**launch):
        launched[launch["name"]] = None
        return [
            mx.zeros(shape, dtype)
            for shape, dtype in zip(launch["output_shapes"], launch["output_dtypes"], strict=True)
        ]

    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", launch)
    monkeypatch.setattr(runtime, "compiled_kernel", lambda kernel: (kernel.written()[0], b""))
    return launched


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize(("guided", "takes", "tokens"), [(False, 1, 0), (True, 1, 5), (True, 4, 9)])
def test_those_that_a_step_launches_are_found(card, monkeypatch, bits, guided, takes, tokens):
    lm, sampler = model(bits), Sampler(20, guided)
    found = kernels_of(lm, sampler, ALL, takes, tokens)
    assert found
    launched = record_launches(monkeypatch)
    step = Step(lm, sampler, ALL)
    keys = mx.zeros((1, 2, tokens, 32))
    cross = step.folded([(keys, keys)] * 3, takes) if tokens else None
    rows = 2 * takes if guided else takes
    column, at = mx.zeros((takes, 4), mx.int32), mx.array([0])
    cache = [mx.zeros((rows, 2, 2, 256, 32))] * 3
    noise, numbers = mx.zeros((takes, 2), mx.uint32), (mx.array(1.0), mx.array(1.0))
    step.lookup(lm.embed_tokens, column)
    alike = mx.zeros((4,), mx.int32) if takes > 1 else None
    step(column, column, at, None, noise, numbers, cache, cross, alike)
    assert [kernel.written()[0] for kernel in found] == list(launched)


@pytest.mark.parametrize("channels", [1, 2])
def test_those_of_the_codec_are_found(toy, card, monkeypatch, channels):
    """What a take of any length launches: lengths are no part of a kernel's source."""
    codec = MLXEngine(open_checkpoint(str(toy))).codec
    fused = Codec(codec.config, ALL, Lookup(ALL))
    found = {kernel.written()[0] for kernel in codec_kernels_of(fused, channels, 4)}
    launched = record_launches(monkeypatch)
    fused.encode(mx.zeros((channels, 100 * codec.config.hop_length + 5, 1)), 4)
    fused.synthesize(fused.remember(mx.zeros((channels, 4, 33), mx.int32)))
    assert found == set(launched)
    assert any("convolve" in name for name in found)


def test_nothing_of_the_model_is_computed(card):
    lm = LM(LMConfig(1024, 4, 16, 4096, 4, 2048), 32)
    held = mx.get_active_memory()
    assert kernels_of(lm, Sampler(250, False), ALL, 1, 0)
    assert mx.get_active_memory() - held < 1 << 20


def test_they_compile_while_weights_are_read(toy, card, monkeypatch):
    order: list[object] = []
    monkeypatch.setattr(
        runtime,
        "start_compiling",
        lambda found: [order.append([kernel.name for kernel in found])][:0],
    )
    monkeypatch.setattr(
        weights, "read_stacked", lambda *given: (order.append("read"), read_stacked(*given))[1]
    )
    recipe = Recipe(bits=8, group_size=32)
    MLXEngine(open_checkpoint(str(toy)), recipe=recipe, execution=Execution(kernels=ALL))
    assert str(order[0]).startswith("['lookup', 'embed', 'layer'")
    assert "convolve" in str(order[1])
    assert set(order[2:]) == {"read"}


def test_a_model_is_the_same_after_its_kernels_were_found(toy, card):
    engine = MLXEngine(open_checkpoint(str(toy)))
    sequence = np.zeros((4, 8), np.int32)
    before = engine.logits(sequence)
    assert kernels_of(engine.lm, Sampler.of(Sampling()), ALL, 1, 0)
    np.testing.assert_array_equal(engine.logits(sequence), before)


def test_a_kernel_is_compiled_once_whoever_needs_it():
    asked, go = [], threading.Event()

    def compile_one(source):
        asked.append(source)
        go.wait()
        if source == "broken":
            raise RequestError("no")
        return source.upper()

    compiler: Compiler[str, str] = Compiler(compile_one)
    codes = [compiler.start(source) for source in ("a", "b", "a", "broken")]
    go.set()
    assert [code.result() for code in codes[:3]] == ["A", "B", "A"]
    with pytest.raises(RequestError):
        codes[3].result()
    assert sorted(asked) == ["a", "b", "broken"]
    with pytest.raises(RequestError):
        compiler.start("broken").result()
    assert asked.count("broken") == 2  # what failed is not remembered


def test_waiting_is_shown_where_there_is_something_to_wait_for():
    shown = []

    class Shown(Progress):
        @contextmanager
        def stage(self, name, total=None, unit=""):
            shown.append((name, total, unit))
            yield lambda done, total=None: shown.append(done)

    done, open_one = Future(), Future()
    done.set_result(("", b""))
    wait_for([done], Shown())
    assert shown == []
    timer = threading.Timer(0.01, open_one.set_result, [("", b"")])
    timer.start()
    wait_for([done, open_one], Shown())
    timer.join()
    assert shown == [("compile", 2, "kernels"), 1, 2]
