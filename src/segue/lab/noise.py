"""How far the times of a matrix can be trusted: what of a difference between rows is the machine's.

Two things are measured.  The runs of a row differ, though they do the same; and so do rows that do
the same, such as a cast to the type that weights are stored in already.  Either is taken so that a
single slow run counts for nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations

from .results import Row

TIE = 0.02
"""Rows within two hundredths of each other are as fast, however steady their runs are."""

ONE_SIDED = 1.2816
"""Standard errors that chance exceeds in one of ten cases, by the normal distribution."""

MEDIAN_ERROR = 1.2533
"""√(π / 2): the standard error of a median of n values is that × σ / √n."""

_SMALL = {2: 0.399, 3: 0.994, 4: 0.512, 5: 0.844, 6: 0.611, 7: 0.857, 8: 0.669, 9: 0.872}
"""Corrections of Qₙ for a few values, from the paper's table."""


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation by Rousseeuw and Croux's Qₙ, robust to half of the values.

    It is the distance that a quarter of all pairs lie within, scaled for normal values
    (https://doi.org/10.1080/01621459.1993.10476408).
    """
    n = len(values)
    h = n // 2 + 1
    apart = sorted(abs(a - b) for a, b in combinations(values, 2))
    correction = _SMALL.get(n, n / (n + 1.4) if n % 2 else n / (n + 3.8))
    return 2.2219 * correction * apart[math.comb(h, 2) - 1]


class Noise:
    """How far times can be trusted.

    Args:
        rows: of the matrix, as far as they were measured.
        alike: those of them that do the same work, so that they differ by noise alone.

    Attributes:
        known: whether any row ran more than once.
        between: how many times as long as another a row of `alike` took, in the median over their
            pairs; None where there is no pair.
    """

    def __init__(self, rows: Sequence[Row], alike: Sequence[Row]) -> None:
        logs = [[math.log(seconds) for seconds in row.bench.generate_seconds] for row in rows]
        spreads = [spread(of_row) for of_row in logs if len(of_row) > 1]
        self.known = bool(spreads)
        self._spread = statistics.median(spreads) if spreads else 0.0
        middles = [statistics.median(row.bench.generate_seconds) for row in alike]
        apart = [abs(math.log(a / b)) for a, b in combinations(middles, 2)]
        self.between = math.exp(statistics.median(apart)) if apart else None
        # A difference between two single runs says nothing of how often there is one.
        steady = all(len(row.bench.generate_seconds) > 1 for row in alike)
        self._apart = statistics.median(apart) if apart and steady else 0.0

    def tells_apart(self, slower: Row, faster: Row) -> bool:
        """Return whether one row is slower than another by more than noise.

        That is by more than a 50th; than chance makes of the runs' medians in one of ten cases; and
        than rows that do the same differ.
        """
        counts = [len(row.bench.generate_seconds) for row in (slower, faster)]
        error = MEDIAN_ERROR * self._spread * math.sqrt(sum(1 / count for count in counts))
        least = max(math.log(1 + TIE), ONE_SIDED * error, self._apart)
        medians = [statistics.median(row.bench.generate_seconds) for row in (slower, faster)]
        return math.log(medians[0] / medians[1]) > least
