"""Requests of many kinds for a batch, and what runs them in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segue.engine.base import Sampling
from segue.pattern import UNKNOWN, delay


class Asked(NamedTuple):
    """The arguments of `Engine.prefill`, with lengths for the sequence and words for the text."""

    known: int
    total: int
    seeds: tuple[int, ...]
    sampling: Sampling
    text: str = ""
    first_step: int = 0

    def arguments(self, engine):
        lm = engine.config.lm
        codes = np.full((lm.num_codebooks, self.total), UNKNOWN, np.int32)
        random = np.random.default_rng(self.seeds[0])
        codes[:, : self.known] = random.integers(0, lm.cardinality, (lm.num_codebooks, self.known))
        sequence = delay(codes, lm.delays, lm.special_token)[None]
        text = engine.condition(self.text) if self.text else None
        return sequence, self.seeds, self.sampling, text, self.first_step

    def alone(self, engine):
        """The columns that it has where nothing else runs."""
        return list(engine.prefill(*self.arguments(engine)))


LONG_TEXT = "drums fast slow minor bass strings piano drums drums drums drums"
MIXED = [
    Asked(10, 60, (1,), Sampling(20)),
    Asked(5, 300, (2, 3), Sampling(20, 0.8, 3.0), "drums piano", 7),
    Asked(30, 50, (4,), Sampling(1)),
    Asked(20, 45, (5,), Sampling(0, 1.3), "bass", 100),
    Asked(20, 90, (6,), Sampling(5, 1.0, 2.0)),
    Asked(3, 9, (7, 8, 9), Sampling(20), LONG_TEXT),
    Asked(40, 41, (10,), Sampling(20)),
    Asked(0, 30, (11,), Sampling(20, top_p=0.7), "drums"),
]
"""Everything that may differ does: lengths, takes, samplings, guidance, texts, numbers of steps."""


def run(engine, batch, schedule, steps=2000):
    """The columns of each request; the schedule is pairs of a step and who joins then."""
    left, members = sorted(schedule, key=lambda pair: pair[0]), {}
    for step in range(steps):
        while left and left[0][0] <= step:
            asked = left.pop(0)[1]
            members[asked] = batch.join(*asked.arguments(engine))
        if not left and not any(m.left and m.error is None for m in members.values()):
            return {asked: list(member.columns) for asked, member in members.items()}
        batch.step()
    raise AssertionError("the batch does not end")
