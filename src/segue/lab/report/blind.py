"""Which pairs a report's blind test offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..pick import smaller
from .findings import dig, number
from .listening import Take


def opponents(matrix: Mapping[str, Any], takes: Sequence[Take]) -> list[int]:
    """The takes that are worth a test against the first one, the baseline's.

    Args:
        matrix: what `matrix.json` says.
        takes: what can be heard, with the numbers of their rows.

    Returns:
        Numbers of takes: the pick's first, for that is the question; then the rows that are named
        beside it for their memory, then the others as they come.  Whatever plays just what the
        baseline does is left out: there is nothing to tell apart.
    """
    rows, budget = matrix["rows"], number(matrix, "max_kl")
    wanted = [row for row in rows if row.get("name") == dig(matrix.get("pick"), "name")]
    if wanted and budget is not None:
        wanted += smaller(wanted[0], rows, budget)

    def rank(n: int) -> int:
        row = rows[takes[n].index]
        return next((place for place, one in enumerate(wanted) if one is row), len(wanted))

    found = [n for n in range(1, len(takes)) if not _alike(rows, takes[0], takes[n])]
    return sorted(found, key=rank)


def _alike(rows: Sequence[Any], take: Take, other: Take) -> bool:
    hashes = [dig(rows[each.index], "bench", "codes_sha256") for each in (take, other)]
    if hashes[0] is not None and hashes[0] == hashes[1]:
        return True
    return np.array_equal(take.audio.samples, other.audio.samples)
