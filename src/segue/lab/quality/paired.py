"""Which of two variants loses less, and how sure that is: both were measured on the same music.

What one piece costs every variant cancels out in the difference of two, so its interval is several
times narrower than the two intervals beside each other suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import RequestError
from .divergence import Bootstrap


@dataclass(frozen=True)
class Difference:
    """KL of one variant less that of another, in nats a token.

    Attributes:
        mean: below zero where the first loses less.
        ci95: its 95 % interval.
    """

    mean: float
    ci95: tuple[float, float]

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        low, high = self.ci95
        return low > 0 or high < 0


def difference(one: Mapping[str, Any], other: Mapping[str, Any], of: str = "kl") -> Difference:
    """Compare two quality reports by the blocks of frames that both were measured on.

    Args:
        one: from `QualityReport.to_json`.
        other: likewise.
        of: `"kl"`, or that of a condition: `"text"` or `"guided"`.

    Raises:
        RequestError: they were measured on other music, beside another baseline, or by a version
            that kept no blocks.
    """
    try:
        ours, theirs = one["blocks"], other["blocks"]
        same = all(
            one[key] == other[key] for key in ("model", "engine", "baseline", "prompts", "text")
        )
        same = same and ours["frames"] == theirs["frames"]
        sums = np.array(ours[of], np.float64) - np.array(theirs[of], np.float64)
        bootstrap = Bootstrap(ours["frames"])
        if not same or len(sums) != bootstrap.blocks:
            raise RequestError(
                "the two reports are of other music, another engine, or another baseline: only "
                "what was measured alike can be compared"
            )
        mean, (low, high) = bootstrap.mean_of_sums(sums, ours["tokens_per_frame"])
    except (KeyError, TypeError, ValueError):
        raise RequestError(f"a report without blocks of {of}: measure it again") from None
    return Difference(mean, (low, high))
