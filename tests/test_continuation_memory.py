"""What a continuation copies grows with its length, not with the square of it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segue import Audio, Continuation, Request
from segue import continuation as module
from segue.checkpoints.load_report import LoadReport

FRAME_RATE = 50


class Counting:
    """numpy, counting the elements of what `continuation` has it make."""

    MAKERS = ("concatenate", "repeat", "full", "empty", "zeros", "stack", "array", "append")

    def __init__(self):
        self.elements = 0

    def __getattr__(self, name):
        found = getattr(np, name)
        if name not in self.MAKERS:
            return found

        def counted(*arguments, **options):
            made = found(*arguments, **options)
            self.elements += made.size
            return made

        return counted


class Instant:
    """An engine of the model's shape whose steps cost nothing."""

    def __init__(self, engine):
        self.config, self.load_report = engine.config, LoadReport()
        codec = engine.config.codec
        self.encode = lambda samples: np.zeros((4, len(samples) // codec.hop_length), np.int32)

    def prefill(self, sequence, seeds, sampling, conditioning=None, first_step=0):
        unknown = (sequence == -1).any(axis=(0, 1)).argmax()
        for column in range(unknown, sequence.shape[2]):
            yield np.full((len(seeds), sequence.shape[1]), column % 64, np.int32)


def copied(model, monkeypatch, seconds, variations):
    """Elements that a continuation of so many seconds makes, and where its codes lie."""
    counting = Counting()
    monkeypatch.setattr(module, "np", counting)
    samples = np.full((32_000, 1), 0.1, np.float32)
    request = Request(
        Audio(samples, 32_000),
        prompt_seconds=1,
        output_seconds=seconds,
        variations=variations,
        seed=0,
    )
    engine: Any = Instant(model.engine)
    continuation = Continuation(engine, request)
    places = set()
    for n, _ in enumerate(continuation.frames(), 1):
        assert continuation.codes.shape == (variations, 4, FRAME_RATE + n)
        places.add(continuation.codes.__array_interface__["data"][0])
    assert continuation.codes.shape[2] == FRAME_RATE * seconds
    return SimpleNamespace(elements=counting.elements, places=places)


@pytest.mark.parametrize("variations", [1, 64])
def test_a_frame_copies_no_frame_before_it(model, monkeypatch, variations):
    lengths = [30 + 18 * windows for windows in (5, 10, 15)]
    short, middle, long = (copied(model, monkeypatch, s, variations) for s in lengths)
    assert len(long.places) == 1  # all views are of one array, which is never made anew
    assert long.elements - middle.elements == middle.elements - short.elements


def test_codes_cannot_be_changed_from_outside(model):
    samples = np.full((32_000, 1), 0.1, np.float32)
    request = Request(Audio(samples, 32_000), prompt_seconds=1, output_seconds=2, seed=0)
    continuation = Continuation(model.engine, request)
    with pytest.raises(ValueError, match="read-only"):
        continuation.codes[0] = 0
