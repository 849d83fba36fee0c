"""Second moments of what products read: what an error in a weight costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import ModelOverflowError
from .arithmetic import Arithmetic, NumpyArithmetic, Values


@dataclass
class Moments:
    """Second moments of what products read, by their site: the mean of `xᵀ · x` over rows.

    Attributes:
        sites: those that are of interest; what else is captured is dropped.
        arithmetic: computes, and holds them.
    """

    sites: frozenset[str]
    arithmetic: Arithmetic = field(default_factory=NumpyArithmetic)
    _sums: dict[str, Values] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    def __call__(self, site: str, rows: Values) -> None:
        """Add the input `(rows, columns)` of a site: a `Capture`."""
        if site not in self.sites:
            return
        product = self.arithmetic.moments(rows)
        if site in self._sums:
            self._sums[site] += product
        else:
            self._sums[site] = product
        self.arithmetic.compute(self._sums[site])
        self._rows[site] = self._rows.get(site, 0) + len(rows)

    def of(self, site: str, columns: int) -> np.ndarray:
        """Return the moments `(columns, columns)` of a site; of one never reached, the identity.

        No rows are added to a site after that.

        Raises:
            ModelOverflowError: rows were NaN or infinite.
        """
        if site not in self._sums:
            return np.eye(columns, dtype=np.float32)
        rows = self._rows.pop(site, None)
        if rows is not None:
            moments = np.require(self.arithmetic.give(self._sums[site]), requirements="W")
            moments /= np.float32(rows)
            self._sums[site] = moments  # on the host, and once: 270 MB for the widest site
            if not np.isfinite(moments).all():
                raise ModelOverflowError(f"values that {site} reads", fixed=True)
        found: np.ndarray = self._sums[site]
        return found

    def drop(self, site: str) -> None:
        """Forget a site."""
        self._sums.pop(site, None)
