"""The CUDA kernels play what the portable way plays; they run where there is CUDA."""

from functools import lru_cache

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.gpu.kernels import cases
from segue.checkpoint import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.step import make_step
from segue.errors import RequestError

from .test_mlx import played, prompt_of

cuda = pytest.mark.skipif(not kernels.available(), reason="needs CUDA")


@cuda
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_each_kernel_computes_what_the_portable_way_does(rows, dtype):
    wrong = [case.name for case in cases(256, 4, rows, dtype) if not case.holds]
    assert wrong == []


@cuda
@pytest.mark.parametrize("name", [*kernels.NAMES, "all"])
def test_a_step_of_kernels_plays_what_the_portable_one_does(toy, name):
    portable, fused = (MLXEngine(open_checkpoint(str(toy)), cast_dtype="float32") for _ in range(2))
    for engine, on in ((portable, frozenset()), (fused, kernels.wanted(name))):
        engine.kernels = on
        engine._step = lru_cache(8)(
            lambda sampler, engine=engine, on=on: make_step(engine._lm, sampler, True, on)
        )
    sequence = prompt_of(portable, 20, 300)
    for sampling, text in ((Sampling(top_k=30), ""), (Sampling(30, 0.9, 3.0), "drums")):
        found = [
            played(e, sequence, sampling, (1, 2), e.condition(text) if text else None)
            for e in (portable, fused)
        ]
        assert (found[0] == found[1]).mean() > 0.9
        np.testing.assert_array_equal(found[0][..., :40], found[1][..., :40])


def test_kernels_are_named_by_the_variable_and_only_run_on_cuda(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "linear, attend")
    monkeypatch.setattr(kernels, "available", lambda: True)
    assert kernels.chosen(64) == {"linear", "attend"}
    assert kernels.chosen(40) == {"linear"}
    monkeypatch.setenv(kernels.VARIABLE, "all")
    assert kernels.chosen(64) == set(kernels.NAMES)
    monkeypatch.setenv(kernels.VARIABLE, "none")
    assert kernels.chosen(64) == frozenset()
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setenv(kernels.VARIABLE, "all")
    assert kernels.chosen(64) == frozenset()


def test_a_kernel_that_there_is_not_is_named(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "linear,magic")
    with pytest.raises(RequestError, match=r"magic.*embed, linear, attend, sample"):
        kernels.chosen(64)
