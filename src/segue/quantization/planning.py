"""From losses to a plan: solve, measure what came out on music that was held out, solve again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..checkpoints.plan import Plan, PlanShape
from ..checkpoints.recipe import Calibration, Recipe
from ..errors import RequestError
from .losses import Problem, Ways

OBJECTIVES = ("nats", "bits", "milliseconds")
"""What is to be least: nats within a budget of bits, or bits or milliseconds within one of nats."""

MAX_ROUNDS = 5
"""Of solving and measuring, within a budget of nats."""


@dataclass(frozen=True)
class Goal:
    """What a plan is for.

    Attributes:
        bits: a weight may have on average, scales and biases counted; None for no such budget.
        nats: of KL divergence that a token may lose; None for no such budget.
        objective: one of `OBJECTIVES`; None is what the budget means.

    Raises:
        RequestError: no budget, two of them, one out of range, or another objective's.
    """

    bits: float | None = None
    nats: float | None = None
    objective: str | None = None

    def __post_init__(self) -> None:
        if (self.bits is None) == (self.nats is None):
            raise RequestError("name one budget: --budget-bits or --budget-kl")
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise RequestError(
                f"no objective {self.objective!r}; there are {', '.join(OBJECTIVES)}"
            )
        if self.bits is not None:
            if not 2 < self.bits <= 9:
                raise RequestError(f"budget-bits must lie between 2 and 9, not {self.bits:g}")
            if self.objective not in (None, "nats"):
                raise RequestError(
                    f"the objective {self.objective} is for a budget of nats: --budget-kl"
                )
        if self.nats is not None:
            if not 0 < self.nats <= 10:
                raise RequestError(f"budget-kl must lie between 0 and 10 nats, not {self.nats:g}")
            if self.objective == "nats":
                raise RequestError("the objective nats is for a budget of bits: --budget-bits")

    @property
    def minimised(self) -> str:
        """The one of `OBJECTIVES` that it comes to."""
        return self.objective or ("bits" if self.bits is None else "nats")


@dataclass(frozen=True)
class Planned:
    """A plan that was measured.

    Attributes:
        ways: of every unit.
        predicted: its loss in nats a token, from single units and the plans measured before it.
        measured: the same as measured on held-out music.
        rounds: for each plan that was measured, the sum of its units' losses and what it lost.
    """

    ways: Ways
    predicted: float
    measured: float
    rounds: tuple[tuple[float, float], ...] = field(default_factory=tuple)


def solve(
    problem: Problem, goal: Goal, step: Mapping[str, Mapping[str, float]] | None = None
) -> Ways:
    """Return the best plan as far as single units tell; see `Problem`."""
    if goal.bits is not None:
        return problem.fewest_nats(goal.bits)
    assert goal.nats is not None  # noqa: S101 - one of them is named
    if goal.minimised == "milliseconds":
        assert step is not None  # noqa: S101 - measured for this objective
        return problem.fewest_milliseconds(goal.nats, step)
    return problem.fewest_bits(goal.nats)


def plan(
    problem: Problem,
    goal: Goal,
    measure: Callable[[Ways], float],
    step: Mapping[str, Mapping[str, float]] | None = None,
) -> Planned:
    """Solve and measure, again if what was measured does not fit a budget of nats.

    What a whole plan loses is its units' losses times a factor, which every measurement tells
    anew.  Within a budget of nats it is solved with that factor again, until the plan stays as it
    is and keeps to the budget; where it would not after `MAX_ROUNDS`, the best is taken that did.

    Args:
        problem: units and their losses.
        goal: what is wanted.
        measure: quantizes and returns the loss on held-out music, in nats a token.
        step: see `Problem.fewest_milliseconds`.

    Raises:
        RequestError: nothing fits the budget.
    """
    rounds: list[tuple[float, float]] = []
    found: list[Planned] = []
    for _ in range(MAX_ROUNDS):
        ways = solve(problem, goal, step)
        if any(ways == before.ways for before in found):
            break
        alone = replace(problem, together=1.0).predicted(ways)
        measured = measure(ways)
        rounds.append((alone, measured))
        found.append(Planned(ways, problem.predicted(ways), measured))
        if goal.nats is None or alone <= 0:
            break
        # A little above, or the last plan would lie on the budget's edge by the factor's error.
        problem = replace(problem, together=max(measured / alone, 1e-6) * (1 + 1e-3))
    best = found[-1]
    if goal.nats is not None:
        within = [each for each in found if each.measured <= goal.nats]
        if not within:
            least = min(each.measured for each in found)
            raise RequestError(
                f"no plan was found that loses at most {goal.nats:g} nats a token on held-out "
                f"music: the best lost {least:.3g}; raise --budget-kl or add --widths"
            )
        best = min(within, key=lambda each: _size(problem, goal, each.ways, step))
    return replace(best, rounds=tuple(rounds))


def _size(
    problem: Problem,
    goal: Goal,
    ways: Ways,
    step: Mapping[str, Mapping[str, float]] | None,
) -> float:
    if goal.minimised == "milliseconds" and step is not None:
        return sum(step[name][f"{way.bits}/{way.group_size}"] for name, way in ways.items())
    return float(sum(unit.bits(ways[unit.name]) for unit in problem.units))


def recipe_of(
    problem: Problem,
    ways: Ways,
    shape: PlanShape,
    method: str = "nearest",
    calibration: Calibration | None = None,
    label: str = "",
) -> Recipe:
    """Return the recipe that quantizes every unit its way."""
    modules = tuple((name, ways[unit.name]) for unit in problem.units for name in unit.modules)
    return Recipe(method=method, calibration=calibration, plan=Plan(modules, shape, label))
