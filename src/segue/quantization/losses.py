"""What units lose at widths that were not measured, from the one that was.

Facts from whole matrices of the built-in checkpoint (docs/quantization.md): a bit less costs four
times the divergence, a group twice as large a quarter more, and the losses of single units add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..checkpoints.config import QuantizationParams
from ..errors import RequestError
from .knapsack import Choice, least_cost, least_size
from .units import Unit

MEASURED = QuantizationParams(3, 64)
"""How a unit is quantized to measure it: coarse enough that its loss stands out from rounding."""

PER_BIT = 4.1
"""How many times the divergence of a width is that of one bit more; units differ, from 3.3 to 5."""

PER_DOUBLED_GROUP = 1.28
"""How many times as much groups of twice the size lose."""

TOGETHER = 1.3
"""How many times the sum of its units' losses a whole plan loses, before one was measured."""

WIDTHS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)


def factor(params: QuantizationParams, measured: QuantizationParams = MEASURED) -> float:
    """Return the loss at `params` over that at `measured`."""
    bits: float = PER_BIT ** (measured.bits - params.bits)
    groups: float = PER_DOUBLED_GROUP ** math.log2(params.group_size / measured.group_size)
    return bits * groups


@dataclass(frozen=True)
class Options:
    """What a plan may choose from.

    Attributes:
        widths: bits of a weight.
        groups: weights that share a scale.
        cross_bits: the fewest bits of cross-attention.

    Raises:
        RequestError: MLX has none of them.
    """

    widths: tuple[int, ...] = WIDTHS
    groups: tuple[int, ...] = GROUPS
    cross_bits: int = 4

    def __post_init__(self) -> None:
        for name, values, known in (
            ("widths", self.widths, WIDTHS),
            ("groups", self.groups, GROUPS),
        ):
            if not values or not set(values) <= set(known):
                raise RequestError(f"{name} are some of {', '.join(map(str, known))}")
        if not 2 <= self.cross_bits <= 8:
            raise RequestError(f"cross-bits must lie between 2 and 8, not {self.cross_bits}")
        if max(self.widths) < self.cross_bits:
            raise RequestError(
                f"cross-attention is to have {self.cross_bits} bits at least, and widths end at "
                f"{max(self.widths)}; lower --cross-bits or add a width"
            )

    def ways(self, unit: Unit) -> list[QuantizationParams]:
        """Return how a unit may be quantized, the smallest first.

        Raises:
            RequestError: its rows fit none of the groups.
        """
        least = self.cross_bits if unit.reads_text else 0
        ways = [
            params
            for bits in sorted(set(self.widths))
            for group in sorted(set(self.groups), reverse=True)
            if bits >= least and unit.fits(params := QuantizationParams(bits, group))
        ]
        if not ways:
            raise RequestError(
                f"rows of {unit.name} have {unit.columns} weights, which are no whole groups of "
                + " or ".join(map(str, self.groups))
            )
        return sorted(ways, key=unit.bits)


Size = Callable[[Unit, QuantizationParams], float]

Ways = dict[str, QuantizationParams]
"""By the name of a unit, how it is quantized."""


@dataclass(frozen=True)
class Problem:
    """Units, what they may be, and what they lose.

    Attributes:
        units: all that a plan decides.
        options: what it may choose from.
        losses: of each unit at `MEASURED`, in nats a token, by its name.
        together: see `TOGETHER`.
    """

    units: Sequence[Unit]
    options: Options
    losses: Mapping[str, float]
    together: float = TOGETHER

    def loss(self, unit: Unit, params: QuantizationParams) -> float:
        """Return the loss of one unit alone, in nats a token."""
        return max(self.losses[unit.name], 0.0) * factor(params)

    def predicted(self, ways: Ways) -> float:
        """Return the loss of a whole plan, in nats a token."""
        return self.together * sum(self.loss(unit, ways[unit.name]) for unit in self.units)

    @property
    def weights(self) -> int:
        """Weights of all units."""
        return sum(unit.weights for unit in self.units)

    def fewest_nats(self, bits: float) -> Ways:
        """Return the plan that loses least with at most so many bits a weight.

        Raises:
            RequestError: no plan has so few bits.
        """
        units = self._choices(lambda unit, params: float(unit.bits(params)))
        found = least_cost(units, bits * self.weights)
        if found is None:
            least = sum(min(way.size for way in ways) for ways in units) / self.weights
            raise RequestError(
                f"no plan has {bits:g} bits a weight: the least is {least:.3f}, with scales and "
                "biases; raise --budget-bits, or lower --cross-bits or --widths"
            )
        return self._ways(found)

    def fewest_bits(self, nats: float) -> Ways:
        """Return the smallest plan that is predicted to lose at most so many nats a token.

        Raises:
            RequestError: every plan loses more.
        """
        return self._within(nats, lambda unit, params: float(unit.bits(params)))

    def fewest_milliseconds(self, nats: float, step: Mapping[str, Mapping[str, float]]) -> Ways:
        """Return the plan with the fastest step of those predicted to lose at most so many nats.

        Args:
            nats: a token.
            step: milliseconds of a unit in a step, by its name and by `way_name` of its way.

        Raises:
            RequestError: every plan loses more.
        """
        return self._within(nats, lambda unit, params: step[unit.name][way_name(params)])

    def _within(self, nats: float, size: Size) -> Ways:
        units = self._choices(size)
        found = least_size(units, nats / self.together)
        if found is None:
            best = self.together * sum(min(way.cost for way in ways) for ways in units)
            raise RequestError(
                f"every plan is predicted to lose more than {nats:g} nats a token: the best of "
                f"them {best:.3g}; raise --budget-kl or add --widths"
            )
        return self._ways(found)

    def _choices(self, size: Size) -> list[list[Choice]]:
        return [
            [Choice(size(unit, way), self.loss(unit, way)) for way in self.options.ways(unit)]
            for unit in self.units
        ]

    def _ways(self, found: Sequence[int]) -> Ways:
        return {
            unit.name: self.options.ways(unit)[n] for unit, n in zip(self.units, found, strict=True)
        }


def way_name(params: QuantizationParams) -> str:
    """Return a short name of affine groups: `4/64`."""
    return f"{params.bits}/{params.group_size}"
