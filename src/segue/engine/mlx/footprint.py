"""What generating takes holds in memory beside the model, and so how many takes go at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...checkpoints.config import LMConfig
from .cache import capacity_for
from .lm import filled_up
from .sampling import NOISE_BYTES

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes at the peak, counted from shapes alone.

    Attributes:
        cache: keys and values of all layers, for the whole length.
        growing: of them, what is there twice while the cache grows.
        prefill: activations and attention's scores of the known start, of one layer.
        noise: of the steps that it is made for at once, and what it is made from.
        text: folded into weights, or keys and values for each row.
        logits: and what sampling makes of them.
    """

    cache: int
    growing: int
    prefill: int
    noise: int
    text: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.cache + self.growing + self.prefill + self.noise + self.text + self.logits


def footprint(
    lm: LMConfig,
    value_bytes: int,
    takes: int,
    *,
    guided: bool,
    known: int,
    length: int,
    starts: int = 1,
    tokens: int = 0,
    in_place: bool = True,
) -> Footprint:
    """What some takes hold.

    Args:
        lm: the shape of the model.
        value_bytes: of a value of the type that it computes in.
        takes: N.
        guided: whether each has two rows.
        known: columns that prefill consumes.
        length: columns in all.
        starts: 1 if all takes share their start, else N.
        tokens: of the text; 0 for none.
        in_place: whether steps write the cache in place, which then never grows.
    """
    streams = 2 if guided else 1
    rows = streams * takes
    layer = 2 * lm.dim * value_bytes * capacity_for(length)
    cache = lm.num_layers * rows * layer
    sources = streams * starts
    wide = max(3 * lm.dim, 2 * lm.ffn_dim) * value_bytes
    scores = lm.num_heads * capacity_for(known) * FLOAT_BYTES
    vocabulary = lm.num_codebooks * lm.cardinality * FLOAT_BYTES
    folded = 3 * lm.num_layers * lm.num_heads * filled_up(tokens) * lm.dim * value_bytes
    kept = 2 * lm.num_layers * rows * tokens * lm.dim * value_bytes
    return Footprint(
        cache=cache,
        # In place, each layer's is widened by itself; otherwise all of them before a step.
        growing=3 * rows * layer + cache * sources // rows if in_place else cache,
        prefill=sources * known * (2 * wide + scores),
        noise=3 * max(NOISE_BYTES, takes * vocabulary),
        text=max(folded, kept),
        logits=4 * rows * vocabulary,
    )


def takes_at_once(wanted: int, available: int, of: Callable[[int], Footprint]) -> int:
    """How many takes go at once, of those that are wanted: all, or equal shares that fit.

    One always goes: whether it fits after all, only the device can say.

    Args:
        wanted: how many there are.
        available: bytes beside the model.
        of: what so many hold.
    """
    fitting = next((n for n in range(wanted, 1, -1) if of(n).total <= available), 1)
    turns = -(-wanted // fitting)
    return -(-wanted // turns)


def in_turns(
    takes: int, at_once: int, generate: Callable[[slice], Iterator[np.ndarray]]
) -> Iterator[np.ndarray]:
    """Columns `(N, K)` of all takes, of which some are generated after the others.

    The first ones are generated to their end before the first column is yielded.

    Args:
        takes: N.
        at_once: how many are generated at a time.
        generate: columns of some of the takes.
    """
    before: list[list[np.ndarray]] = []
    for first in range(0, takes, at_once):
        some = generate(slice(first, min(takes, first + at_once)))
        if first + at_once < takes:
            before.append(list(some))
            continue
        for n, column in enumerate(some):
            yield np.concatenate([*(done[n] for done in before), column])
