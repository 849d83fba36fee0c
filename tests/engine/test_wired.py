"""The wired limit: raised on Metal for large models while they generate, and nowhere else."""

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from segue import Audio, Continuation, Request
from segue.checkpoints.opening import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.wired import WiredLimit

from .test_mlx import prompt_of

GPU, CPU = (mx.Device(kind) for kind in (mx.gpu, mx.cpu))
MOST = 10_000_000_000


class Library:
    """As much of `mlx.core` as the limit needs, and what was called, in order."""

    def __init__(self, metal=True, device=GPU, most=MOST):
        self.metal = SimpleNamespace(is_available=lambda: metal)
        self.default_device = lambda: device
        self.device_info = lambda: {"max_recommended_working_set_size": most} if most else {}
        self.limit, self.calls = 7, []

    def set_wired_limit(self, limit):
        self.calls.append(limit)
        before, self.limit = self.limit, limit
        return before

    def synchronize(self):
        self.calls.append("synchronized")


def limit_of(library):
    return WiredLimit(library, library.synchronize)


def test_a_large_model_is_wired_until_all_its_work_is_done():
    library = Library()
    with limit_of(library).raised(MOST):
        assert library.limit == MOST
    assert library.calls == [MOST, "synchronized", 7]


def test_an_error_lowers_it_too():
    library = Library()
    with pytest.raises(MemoryError), limit_of(library).raised(MOST):
        raise MemoryError
    assert library.limit == 7


def test_requests_that_overlap_raise_it_once_and_the_last_lowers_it():
    library = Library()
    limit = limit_of(library)
    one, other = limit.raised(MOST), limit.raised(MOST)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert library.calls == [MOST]
    other.__exit__(None, None, None)
    assert library.calls == [MOST, "synchronized", 7]


@pytest.mark.parametrize(
    ("library", "size"),
    [
        (Library(metal=False), MOST),  # CUDA, or a CPU
        (Library(device=CPU), MOST),
        (Library(most=None), MOST),
        (Library(), MOST // 3),  # small: nothing has a reason to page it out
    ],
    ids=["no Metal", "on the CPU", "not said", "small"],
)
def test_elsewhere_nothing_is_set(library, size):
    with limit_of(library).raised(size):
        pass
    assert library.calls == []


def test_a_model_near_the_limit_is_noted_in_one_line():
    limit = limit_of(Library())
    assert limit.note(MOST * 8 // 10) is None
    note = limit.note(MOST * 95 // 100)
    assert "9.5 GB of the 10.0 GB" in note
    assert "\n" not in note
    assert limit_of(Library(metal=False)).note(2 * MOST) is None


def test_an_engine_raises_it_while_it_generates_and_says_what_is_near(toy):
    library = Library(most=1000)
    engine = MLXEngine(open_checkpoint(str(toy)), wired_limit=limit_of(library))
    assert library.calls == []
    columns: Any = engine.prefill(prompt_of(engine, 10, 50)[None], (1,), Sampling(top_k=1))
    assert library.limit == 7
    next(columns)
    assert library.limit == 1000
    columns.close()
    assert library.limit == 7
    audio = Audio(np.full((32_000, 1), 0.1, np.float32), 32_000)
    result = Continuation(engine, Request(audio, prompt_seconds=0.5)).result()
    assert any("the GPU works well with" in note for note in result.notes)


def test_the_limit_of_this_process_does_nothing_without_metal(toy):
    if mx.metal.is_available():
        pytest.skip("Metal is here")
    assert WiredLimit().recommended_bytes() is None
