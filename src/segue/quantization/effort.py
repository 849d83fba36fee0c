"""How long GPTQ takes, from what a part of a layer took: an estimate before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from . import rounding

_WORTH_SAYING = 60.0
_FLOAT64 = 2
_WEIGHT = 5_000
"""Multiplications in products that take as long as what sweeps do with a weight beside products."""


@dataclass(frozen=True)
class Effort:
    """Seconds that parts of the work take.

    Attributes:
        layer: to read a layer's weights.
        row: for a row to pass a layer, and to be counted in its moments.
        unit: to round, for each unit of `work`.
    """

    layer: float = 0.0
    row: float = 0.0
    unit: float = 0.0

    def passing(self, rows: int) -> float:
        """Return the seconds that rows take to pass a layer."""
        return self.layer + self.row * rows

    def rounding(self, shapes: Iterable[tuple[int, ...]]) -> float:
        """Return the seconds that it takes to round matrices `(rows, columns)`."""
        return self.unit * sum(map(work, shapes))


def work(shape: tuple[int, ...]) -> float:
    """Return about how many multiplications it takes to round a matrix `(rows, columns)`."""
    rows, columns = shape
    products = 2 * (1 + rounding.SWEEPS) * columns**2 * rows
    return products + _FLOAT64 * columns**3 / 3 + _WEIGHT * rows * columns


def duration(seconds: float) -> str:
    """Write a time for people: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def spoken(seconds: float) -> str:
    """Return what is said of a time beside a name; nothing of less than a minute."""
    return "" if seconds < _WORTH_SAYING else f" (about {duration(seconds)})"
