"""How many streams of each job are open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..exceptions import RefusalError


class OpenStreams:
    """Counts the open streams of each job: every one costs reading and sending.

    Args:
        most: of one job.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, job_id: str) -> Iterator[None]:
        """One more, as long as it lasts.

        Raises:
            RefusalError: there are enough.
        """
        if self._open[job_id] >= self._most:
            line = f"{self._most} streams of this music are open already; close one of them"
            raise RefusalError(429, line, {"Retry-After": "5"})
        self._open[job_id] += 1
        try:
            yield
        finally:
            self._open[job_id] -= 1
            if not self._open[job_id]:
                del self._open[job_id]
