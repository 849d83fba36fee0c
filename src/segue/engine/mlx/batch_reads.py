"""The columns of a batch on their way to the host, and to the members that they are of."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN
from .batch_inputs import MLXMember

Owner = tuple[MLXMember, np.ndarray, int]
"""A member, where its takes lie among the rows of a column, and the column's number."""


class Reads:
    """Reads columns some steps late, so that no step waits for the host.

    An overflow is reported by the tokens, as in `decoding`.

    Args:
        overflow_token: what is sampled where logits are NaN or infinite.
        columns_per_read: columns that are read at a time.
    """

    def __init__(self, overflow_token: int, columns_per_read: int) -> None:
        self._overflow_token, self._columns_per_read = overflow_token, columns_per_read
        self._added = 0
        self._collected: list[mx.array] = []
        self._owners: list[Sequence[Owner]] = []
        self._under_way: deque[tuple[int, mx.array, list[Sequence[Owner]]]] = deque()

    def add(self, tokens: mx.array, owners: Sequence[Owner]) -> None:
        """Take the next column `(rows, K)`, in a turn."""
        self._collected.append(tokens)
        self._owners.append(owners)
        self._added += 1
        if len(self._collected) >= self._columns_per_read:
            self.flush()

    def flush(self) -> None:
        """Send the columns to the host that wait for others, in a turn."""
        if self._collected:
            several = len(self._collected) > 1
            stacked = mx.stack(self._collected) if several else self._collected[0][None]
            mx.async_eval(stacked)
            self._under_way.append((self._added, stacked, self._owners))
            self._collected, self._owners = [], []

    def deliver(self, lag: int) -> list[MLXMember]:
        """Give members the columns that were sent at least `lag` columns ago.

        Returns:
            The members whose logits are NaN or infinite; they have the error, and no more columns.
        """
        overflown = []
        while self._under_way and self._under_way[0][0] + lag <= self._added:
            _, stacked, owners_of = self._under_way.popleft()
            columns = np.array(stacked)
            # Asked once for all rows, since there may be many and hardly ever one that is.
            suspects = (columns == self._overflow_token).any(axis=(1, 2))
            for tokens, suspect, owners in zip(columns, suspects, owners_of, strict=True):
                for member, rows, column in owners:
                    if member.error is not None:
                        continue
                    own = tokens[rows]
                    if suspect and self._spoils(own, member.known[column]):
                        member.error = ModelOverflowError("logits")
                        overflown.append(member)
                        continue
                    member.left -= 1
                    member.columns.append(own)
        return overflown

    def _spoils(self, tokens: np.ndarray, known: np.ndarray) -> bool:
        """Whether one of the tokens that were sampled reports an overflow."""
        return bool(((tokens == self._overflow_token) & (known == UNKNOWN)).any())

    def fail(self, error: Exception) -> None:
        """Give up what has not been delivered; whoever waits for it has an error."""
        for owners_of in (self._owners, *(each[2] for each in self._under_way)):
            for member, _, _ in (owner for owners in owners_of for owner in owners):
                member.error = member.error or error
        self._collected, self._owners = [], []
        self._under_way.clear()
