"""Which pairs a report's blind test offers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..pick import smaller
from ..results import Matrix, Row
from .listening import Take


def opponents(matrix: Matrix, takes: Sequence[Take]) -> list[int]:
    """Return the takes that are worth a test against the first one, the baseline's.

    Args:
        matrix: what was measured.
        takes: what can be played, with the numbers of their rows.

    Returns:
        Numbers of takes: the pick's first, for that is the question; then the rows that are named
        beside it for their memory, then the others in their order.  What sounds exactly as the
        baseline is left out: there is nothing to tell apart.
    """
    rows = matrix.rows
    first = [row for row in rows if matrix.is_picked(row)]
    if first and matrix.max_kl is not None:
        first += smaller(first[0], rows, matrix.max_kl)

    def rank(n: int) -> int:
        row = rows[takes[n].index]
        return next((place for place, one in enumerate(first) if one is row), len(first))

    found = [n for n in range(1, len(takes)) if not _equal(rows, takes[0], takes[n])]
    return sorted(found, key=rank)


def _equal(rows: Sequence[Row], take: Take, other: Take) -> bool:
    hashes = [rows[each.index].bench.codes_sha256 for each in (take, other)]
    if hashes[0] is not None and hashes[0] == hashes[1]:
        return True
    return np.array_equal(take.audio.samples, other.audio.samples)
