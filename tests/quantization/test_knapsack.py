"""The knapsack, against trying everything."""

import itertools

import numpy as np
import pytest

from segue.quantization.knapsack import Choice, least_cost, least_size


def problem(seed, whole):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, (5, 4)) * 16 if whole else rng.uniform(0, 1, (5, 4))
    costs = rng.uniform(0, 1, (5, 4)) ** 3
    return [
        [Choice(float(s), float(c)) for s, c in zip(*ways, strict=True)]
        for ways in zip(sizes, costs, strict=True)
    ]


def every(units):
    for numbers in itertools.product(*(range(len(ways)) for ways in units)):
        ways = [ways[n] for ways, n in zip(units, numbers, strict=True)]
        yield sum(way.size for way in ways), sum(way.cost for way in ways)


def total(units, numbers):
    ways = [ways[n] for ways, n in zip(units, numbers, strict=True)]
    return sum(way.size for way in ways), sum(way.cost for way in ways)


@pytest.mark.parametrize("seed", range(12))
def test_the_least_cost_is_that_of_trying_everything(seed):
    units = problem(seed, whole=True)
    for budget in (200.0, 777.0, 1500.0, 1e6):
        best = min((cost for size, cost in every(units) if size <= budget), default=None)
        found = least_cost(units, budget)
        if best is None:
            assert found is None
        else:
            size, cost = total(units, found)
            assert size <= budget
            assert cost == pytest.approx(best)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [True, False])
def test_the_least_size_is_that_of_trying_everything(seed, whole):
    units = problem(seed, whole)
    for budget in (0.05, 0.3, 1.0):
        best = min((size for size, cost in every(units) if cost <= budget), default=None)
        found = least_size(units, budget)
        if best is None:
            assert found is None
        else:
            size, cost = total(units, found)
            assert cost <= budget + 1e-12
            assert size == pytest.approx(best, abs=0 if whole else 5e-4)  # fractions are rounded


def test_sizes_that_need_too_many_steps_still_keep_the_budget():
    units = [[Choice(1e9 + n, 1.0), Choice(2e9 + 7 * n, 0.5)] for n in range(1, 9)]
    size, _ = total(units, least_cost(units, 1.3e10))
    assert size <= 1.3e10


def test_units_that_cost_nothing_in_size_get_what_loses_least():
    units = [[Choice(0.0, 0.3), Choice(0.0, 0.1)], [Choice(0.0, 0.2)]]
    assert least_size(units, 1.0) == [1, 0]
    assert least_cost(units, 0.0) == [1, 0]
