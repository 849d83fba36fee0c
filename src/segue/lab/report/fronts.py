"""Which rows nothing beats, and which differences between rows are none of chance.

Text for `report.md`; the page draws the same fronts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from ...errors import RequestError
from ..quality.paired import difference
from ..results import Row
from .findings import failure, significant


def front(rows: Sequence[Row], cost: Callable[[Row], float | None]) -> list[Row]:
    """Return the rows that no other beats in both KL and `cost`, least KL first.

    Args:
        rows: of a matrix; those without KL, or without a cost, are left out.
        cost: what is better where it is less, beside KL.
    """
    known = [
        (kl, paid, row)
        for row in rows
        if failure(row) is None and (kl := _kl(row)) is not None and (paid := cost(row)) is not None
    ]
    found: list[Row] = []
    least = float("inf")
    for _, paid, row in sorted(known, key=lambda each: each[:2]):
        if paid < least:
            least = paid
            found.append(row)
    return found


def _kl(row: Row) -> float | None:
    return 0.0 if row.plain else row.quality.kl


_COSTS: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("bits a weight", "bits", lambda row: row.bench.bits_per_weight),
    ("milliseconds a step", "ms", lambda row: row.bench.ms_per_step),
)


def front_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line for each front: KL against bits, and against milliseconds."""
    lines = []
    for what, unit, cost in _COSTS:
        best = front(rows, cost)
        if len(best) > 1:
            shown = ", ".join(
                f"{row.name} ({significant(_kl(row) or 0)} nats, {significant(cost(row) or 0)} "
                f"{unit})"
                for row in best
            )
            lines.append(f"Nothing beats in both KL and {what}: {shown}")
    return lines


def pair_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line for each two rows that follow each other in KL: which loses less, and is it so.

    The intervals are of the differences, block by block: `segue.lab.quality.paired`.
    """
    measured = [row for row in rows if row.quality.kl and failure(row) is None]
    measured.sort(key=lambda row: row.quality.kl or 0)
    lines = []
    for less, more in pairwise(measured):
        try:
            apart = difference(more.quality.report, less.quality.report)
        except RequestError:
            continue
        low, high = apart.ci95
        verdict = "" if apart.certain else ", which may be chance"
        lines.append(
            f"{more.name} loses {significant(apart.mean)} nats more than {less.name} "
            f"({significant(low)} to {significant(high)}){verdict}"
        )
    return lines
