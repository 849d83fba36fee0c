"""What each client may have: found out before anything of a request is read, or stored.

Jobs and seconds are counted in the store, for all fronts together and over restarts; see `usage`.
Requests a minute are counted here, by each front for itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ...errors import RequestError
from ..clients import Client
from ..exceptions import OverLimitError
from ..metrics import Metrics
from .progress import Clock
from .spec import JobSpec
from .store import Store
from .usage import DAY_SECONDS, LimitReachedError, day_of, seconds_of
from .waiting import WaitingJobs

log = logging.getLogger("segue.service")

_WINDOW_SECONDS = 60.0


class ClientLimits:
    """Refuses what is more than a client may have.

    Args:
        store: that knows what each has had.
        waiting: the queue's jobs.
        metrics: what is counted.
        clock: seconds that only go forward, by which requests a minute are counted.
    """

    def __init__(
        self, store: Store, waiting: WaitingJobs, metrics: Metrics, clock: Clock = time.monotonic
    ) -> None:
        self._store, self._waiting, self._metrics, self._clock = store, waiting, metrics, clock
        self._requests: dict[str, deque[float]] = {}

    def check(self, client: Client, reserved: int) -> None:
        """Find out whether a client may have another job, before it is known which; and count it.

        Args:
            client: that sends the request.
            reserved: jobs of its own that are on their way into the queue.

        Raises:
            OverLimitError: it may not.
        """
        recent = self._recent(client)
        if client.jobs_at_once is not None:
            # Not their sum: one that is being queued is both.  The store counts once more.
            jobs = max(self._store.usage.jobs(client.name), reserved)
            if jobs >= client.jobs_at_once:
                raise self.reached(client, LimitReachedError("jobs_at_once", jobs))
        if client.seconds_per_day is not None:
            used = self._used(client)
            if used >= client.seconds_per_day:
                raise self.reached(client, LimitReachedError("seconds_per_day", used))
        recent.append(self._clock())

    def check_upload(self, client: Client) -> None:
        """Find out whether a client may send audio for jobs to come; and count it.

        Raises:
            OverLimitError: it may not.
        """
        self._recent(client).append(self._clock())

    def check_seconds(self, client: Client, spec: JobSpec) -> None:
        """Find out whether a client may have a job, before its audio is decoded.

        Raises:
            OverLimitError: not today.
            RequestError: not on any day.
        """
        if (most := client.seconds_per_day) is None:
            return
        if (seconds := seconds_of(spec)) > most:
            raise RequestError(
                f"this is {seconds:,.0f} s of new music, and {most:,.0f} s a day are yours; "
                "ask for less"
            )
        if (used := self._used(client)) + seconds > most:
            raise self.reached(client, LimitReachedError("seconds_per_day", used))

    def of_client(self, client: Client) -> dict[str, Any]:
        """What a client may have, None for any number, and what it has."""
        return {
            "name": client.name,
            "admin": client.admin,
            "jobs_per_minute": client.jobs_per_minute,
            "jobs": self._store.usage.jobs(client.name),
            "jobs_at_once": client.jobs_at_once,
            "seconds_today": self._used(client),
            "seconds_per_day": client.seconds_per_day,
            "weight": client.weight,
        }

    def queued(self) -> Counter[str]:
        """How many jobs wait, by their clients."""
        return self._waiting.queued_by_client()

    def reached(self, client: Client, reached: LimitReachedError) -> OverLimitError:
        """The answer to a request that is more than a client may have, which is counted."""
        line, seconds = _LINES[reached.limit](self, client, reached.used)
        return self._refused(client, reached.limit, line, seconds)

    def _refused(self, client: Client, limit: str, line: str, seconds: float) -> OverLimitError:
        self._metrics.refused(client.name, limit)
        log.info("request refused", extra={"client": client.name, "limit": limit})
        return OverLimitError(f"{line} in {_said(seconds)}", seconds)

    def _recent(self, client: Client) -> deque[float]:
        """When a client sent requests lately, of which it may send another.

        Raises:
            OverLimitError: it may not.
        """
        if (most := client.jobs_per_minute) is None:
            self._requests.pop(client.name, None)
            return deque()
        times, now = self._requests.setdefault(client.name, deque()), self._clock()
        while times and times[0] <= now - _WINDOW_SECONDS:
            times.popleft()
        if len(times) >= most:
            line = f"{most:,} requests a minute may begin music or bring audio; try again"
            # Once as many are left as leave room for one more.
            seconds = times[len(times) - most] + _WINDOW_SECONDS - now
            raise self._refused(client, "jobs_per_minute", line, seconds)
        return times

    def _used(self, client: Client) -> float:
        return self._store.usage.seconds(client.name, day_of(self._store.clock()))

    def _jobs_line(self, client: Client, used: float) -> tuple[str, float]:
        line = f"{used:,.0f} of your requests wait or play, as many as may at once; try again"
        return line, self._waiting.seconds_of_client(client.name)

    def _day_line(self, client: Client, used: float) -> tuple[str, float]:
        most, now = client.seconds_per_day or 0.0, self._store.clock()
        line = (
            f"{used:,.0f} of your {most:,.0f} s of new music for today are used; "
            f"{'ask for less, or ' if used < most else ''}come again after 00:00 UTC,"
        )
        return line, day_of(now) + DAY_SECONDS - now


_LINES: dict[str, Callable[[ClientLimits, Client, float], tuple[str, float]]] = {
    "jobs_at_once": ClientLimits._jobs_line,
    "seconds_per_day": ClientLimits._day_line,
}


def _said(seconds: float) -> str:
    """A time to wait, in words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds > 2 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{max(1, math.ceil(seconds))} s"
