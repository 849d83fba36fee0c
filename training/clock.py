"""Time as the measure of a run: a budget in seconds, and learning rates that follow it."""

import math
import time


class Clock:
    """Counts from its making to `seconds`."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self.begun

    @property
    def done(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self.elapsed / self.seconds)


def cosine(first: float, last: float, done: float) -> float:
    """From `first` at 0 to `last` at 1 along half a cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
