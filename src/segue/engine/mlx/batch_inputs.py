"""What the host gives the steps of a batch: tokens that are known, positions, noise, numbers.

It is made for several steps at once, since every array that is sent to a GPU costs the host time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import mlx.core as mx
import numpy as np

from ...pattern import UNKNOWN
from ..base import Member, Sampling
from .lm import CrossKV
from .lookups import entry
from .rows import RowControls, row_controls
from .sampling import Controls, Sampler, controls, keys_of, noise

STEPS = 32
"""Steps that inputs are made for at once, at most: some of them are in vain when rows change."""

NOISE_BYTES = 16 << 20
"""Of noise that is made at once."""

LEAST_POSITIONS = 4
"""MLX keeps an array of eight bytes or less in the host's memory, which every kernel waits for."""


@dataclass(eq=False, kw_only=True)
class MLXMember(Member):
    """A member of a batch.

    Attributes:
        known: `(S, N, K)` int32, `UNKNOWN` where the model fills in.
        seeds, sampling, first_step: see `Engine.prefill`.
        cross: of its text, or None.
        column: the one whose tokens the next step runs.
        before: positions in the cache before column 0.
        slots: `(rows,)`, where its rows lie among those of a step.
    """

    known: np.ndarray
    seeds: tuple[int, ...]
    sampling: Sampling
    cross: CrossKV | None
    first_step: int
    column: int
    before: int
    slots: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def takes(self) -> int:
        """How many, N."""
        return len(self.seeds)

    @property
    def length(self) -> int:
        """Columns of the whole sequence, S."""
        return len(self.known)

    @property
    def position(self) -> int:
        """Where the next step's column lies in the cache."""
        return self.before + self.column

    @property
    def take_slots(self) -> np.ndarray:
        """`(N,)`, where the tokens of its takes lie among those of a step."""
        return self.slots[: self.takes]

    @cached_property
    def sampler(self) -> Sampler:
        """What of its sampling shapes a graph."""
        return Sampler.of(self.sampling)

    @cached_property
    def unknown(self) -> tuple[int, int]:
        """The longest range of columns of which nothing is known: its first, and the one after."""
        some = np.flatnonzero((self.known != UNKNOWN).any(axis=(1, 2)))
        ends = np.concatenate([[-1], some, [self.length]])
        n = int(np.diff(ends).argmax())
        return int(ends[n]) + 1, int(ends[n + 1])

    def numbers(self, cardinality: int) -> tuple[float, float, int, float]:
        """Temperature, guidance coefficient, top-k and top-p, as `rows.RowControls` has them."""
        sampling, sampler = self.sampling, self.sampler
        temperature = sampling.temperature if sampler.noisy else 1.0
        top_k = sampler.top_k if 0 < sampler.top_k < cardinality else cardinality
        return temperature, sampling.guidance_coef or 0.0, top_k, sampler.top_p

    @cached_property
    def controls(self) -> Controls:
        """The numbers of its sampling, on the device."""
        return controls(self.sampling)


class Inputs:
    """The inputs of the next steps of some members.

    Args:
        members: those that have rows.
        rows: of a step; for one member alone its takes, else slots.
        shape: K and V.
        alone: whether it is one member alone, whose takes have one position and no slots.
        keys: whether the step makes its noise itself, and is given its keys.
    """

    def __init__(
        self,
        members: Sequence[MLXMember],
        rows: int,
        shape: tuple[int, int],
        alone: bool,
        keys: bool = False,
    ) -> None:
        K, V = shape
        noisy = [member for member in members if member.sampler.noisy]
        self._steps = min(STEPS, *(member.length - 1 - member.column for member in members))
        self._gumbel: mx.array | None = None
        self._alone, self._at = alone, 0
        if noisy:
            if not keys:
                self._steps = min(self._steps, max(1, NOISE_BYTES // (4 * rows * K * V)))
            self._gumbel = self._noise(noisy, rows, shape, keys)
        steps = np.arange(self._steps, dtype=np.int32)
        known = np.zeros((self._steps, rows, K), np.int32)  # slots that are free sample nothing
        positions = np.zeros((max(LEAST_POSITIONS, self._steps), rows), np.int32)
        at, counts = _places(members, alone)
        known[:, at] = UNKNOWN
        for member in members:
            start = member.column + 1
            begin, end = member.unknown
            if not begin <= start <= end - self._steps:
                for slots in _streams(member, alone):
                    known[:, slots] = member.known[start : start + self._steps]
        first = np.repeat(np.array([m.position for m in members], np.int32), counts)
        positions[: self._steps, at] = first + steps[:, None]
        self._known = mx.array(known)
        self._positions = mx.array(positions[:, 0] if alone else positions)

    def _noise(
        self, members: Sequence[MLXMember], rows: int, shape: tuple[int, int], keys: bool
    ) -> mx.array:
        """Gumbel noise `(steps, rows, K, V)`, that of a take for each of its rows; or its keys."""
        seeds, first = np.zeros(rows, np.uint32), np.zeros(rows, np.uint32)
        at, counts = _places(members, self._alone)
        each = zip(members, counts, strict=True)
        seeds[at] = np.concatenate([np.resize(np.array(m.seeds, np.uint32), n) for m, n in each])
        begin = np.array([m.first_step + m.column + 1 for m in members], np.uint32)
        first[at] = np.repeat(begin, counts)
        numbers = first + np.arange(self._steps, dtype=np.uint32)[:, None]
        if keys:
            return keys_of(seeds, numbers)
        made = noise(mx.array(np.tile(seeds, self._steps)), mx.array(numbers.reshape(-1)), *shape)
        return made.reshape(self._steps, rows, *shape)

    @property
    def used_up(self) -> bool:
        """Whether there are none left."""
        return self._at == self._steps

    def next(self) -> tuple[mx.array, mx.array, mx.array | None]:
        """The next step's known tokens `(rows, K)`, positions, and noise `(rows, K, V)` or keys."""
        n, self._at = self._at, self._at + 1
        position = self._positions[n : n + 1]
        if not self._alone:
            position = position.squeeze(0)
        gumbel = None if self._gumbel is None else entry(self._gumbel, n)
        return entry(self._known, n), position, gumbel


def _places(members: Sequence[MLXMember], alone: bool) -> tuple[np.ndarray, list[int]]:
    """The rows of all members, one after the other, and how many each has."""
    if alone:
        (member,) = members
        return np.arange(member.takes), [member.takes]
    return np.concatenate([m.slots for m in members]), [m.rows for m in members]


def _streams(member: MLXMember, alone: bool) -> list[np.ndarray]:
    """The rows of a member's takes, once for each stream."""
    if alone:
        return [np.arange(member.takes)]
    return np.split(member.slots, len(member.slots) // member.takes)


def controls_of(members: Sequence[MLXMember], rows: int, cardinality: int) -> RowControls:
    """The numbers that rows are sampled with.

    Args:
        members: those that have rows.
        rows: slots.
        cardinality: V.
    """
    numbers, partners = np.ones((4, rows), np.float32), np.tile(np.arange(rows), (2, 1))
    at, counts = _places(members, alone=False)
    own = np.array([member.numbers(cardinality) for member in members], np.float32)
    numbers[:, at] = np.repeat(own.T, counts, axis=1)
    for member in members:
        if member.sampler.guided:
            first, second = _streams(member, alone=False)
            partners[:, first] = partners[:, second] = first, second
    return row_controls(numbers, partners)
