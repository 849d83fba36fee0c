"""The columns of a batch on their way to the host, and to the members that they are of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from ...errors import ModelOverflowError
from ...pattern import UNKNOWN
from .batch_inputs import MLXMember

Owner = tuple[MLXMember, np.ndarray, int]
"""A member, where its takes lie among the rows, and the number of the first column."""


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
        self._owners: Sequence[Owner] = ()
        self._under_way: deque[tuple[int, mx.array, Sequence[Owner]]] = deque()

    def add(self, tokens: mx.array, owners: Callable[[], Sequence[Owner]]) -> None:
        """Take the next column `(rows, K)`, in a turn.

        Args:
            tokens: the column.
            owners: of its rows, asked for where it is the first that is sent with others; before
                rows have others, those that are collected are to be sent (`flush`).
        """
        if not self._collected:
            self._owners = owners()
        self._collected.append(tokens)
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
            self._collected, self._owners = [], ()

    def deliver(self, lag: int) -> list[MLXMember]:
        """Give members the columns that were sent at least `lag` columns ago.

        Returns:
            The members whose logits are NaN or infinite; they have the error, and no more columns.
        """
        overflown = []
        while self._under_way and self._under_way[0][0] + lag <= self._added:
            _, stacked, owners = self._under_way.popleft()
            columns = np.array(stacked)
            # Asked once for all rows, since there may be many and hardly ever one that is.
            suspect = bool((columns == self._overflow_token).any())
            for member, rows, first in owners:
                if member.error is not None:
                    continue
                own = columns[:, rows]
                good = len(own)
                if suspect:
                    known = member.known[first : first + len(own)]
                    good = self._before_overflow(own, known)
                member.hand_out(list(own[:good]))
                if good < len(own):
                    member.error = ModelOverflowError("logits")
                    overflown.append(member)
        return overflown

    def _before_overflow(self, tokens: np.ndarray, known: np.ndarray) -> int:
        """How many columns come before the first whose tokens, where sampled, report one."""
        overflown = ((tokens == self._overflow_token) & (known == UNKNOWN)).any(axis=(1, 2))
        return int(overflown.argmax()) if overflown.any() else len(tokens)

    def fail(self, error: Exception) -> None:
        """Give up what has not been delivered; whoever waits for it has an error."""
        for owners in (self._owners, *(each[2] for each in self._under_way)):
            for member, _, _ in owners:
                member.error = member.error or error
        self._collected, self._owners = [], ()
        self._under_way.clear()
