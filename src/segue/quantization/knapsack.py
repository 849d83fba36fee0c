"""One way for each unit, so that they cost least within a budget: a multiple-choice knapsack.

Sizes are whole numbers of a common step, and the table of the best cost for every total size is
filled exactly (dynamic programming; Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, §11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_STEPS = 100_000
"""Of the table; where a common step gives more, sizes are rounded up to a coarser one."""


@dataclass(frozen=True)
class Choice:
    """One way for a unit.

    Attributes:
        size: what the budget is of, 0 or more.
        cost: what is to be least, 0 or more.
    """

    size: float
    cost: float


def least_cost(units: Sequence[Sequence[Choice]], budget: float) -> list[int] | None:
    """Choose a way for each unit so that the sum of costs is least.

    Args:
        units: the ways of each; of those that are equal in both, the first is taken.
        budget: what the sum of sizes may be.

    Returns:
        The number of each unit's way; None if nothing is within the budget.
    """
    table = _Table(units, budget)
    reached = np.flatnonzero(np.isfinite(table.cost))
    if len(reached) == 0:
        return None
    return table.choices(int(reached[np.argmin(table.cost[reached])]))


def least_size(units: Sequence[Sequence[Choice]], budget: float) -> list[int] | None:
    """Choose a way for each unit so that the sum of sizes is least.

    Args:
        units: see `least_cost`.
        budget: what the sum of costs may be.

    Returns:
        See `least_cost`.
    """
    table = _Table(units, sum(max(way.size for way in ways) for ways in units))
    within = np.flatnonzero(table.cost <= budget)
    return table.choices(int(within[0])) if len(within) else None


class _Table:
    """The least cost for every total size, and how it comes about.

    Attributes:
        cost: `(steps + 1,)`, infinite where no choices have just this size.
    """

    def __init__(self, units: Sequence[Sequence[Choice]], budget: float) -> None:
        step = _step(units, budget)
        # What a rounding error puts above a whole number of steps is not rounded up.
        self._sizes = [
            [math.ceil(way.size / step - 1e-9) if step else 0 for way in ways] for ways in units
        ]
        steps = math.floor(budget / step + 1e-9) if step else 0
        self.cost = np.full(steps + 1, np.inf)
        if budget >= 0:
            self.cost[0] = 0.0
        self._chosen = []
        for ways, sizes in zip(units, self._sizes, strict=True):
            best = np.full(steps + 1, np.inf)
            chosen = np.full(steps + 1, -1, np.int16)
            for n, (way, size) in enumerate(zip(ways, sizes, strict=True)):
                if size > steps:
                    continue
                cost = self.cost[: steps + 1 - size] + way.cost
                better = cost < best[size:]
                best[size:][better] = cost[better]
                chosen[size:][better] = n
            self.cost = best
            self._chosen.append(chosen)

    def choices(self, size: int) -> list[int]:
        """The way of each unit that leads to the least cost at a size."""
        found = []
        for chosen, sizes in zip(reversed(self._chosen), reversed(self._sizes), strict=True):
            found.append(int(chosen[size]))
            size -= sizes[found[-1]]
        return found[::-1]


def _step(units: Sequence[Sequence[Choice]], budget: float) -> float:
    """The greatest common divisor of whole sizes, or what the finest table has; 0 for no size."""
    sizes = [way.size for ways in units for way in ways]
    finest = max(budget, 0.0) / MAX_STEPS
    if all(size == int(size) for size in sizes):
        return max(float(math.gcd(*(int(size) for size in sizes))), finest)
    return finest
