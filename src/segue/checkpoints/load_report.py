"""What loading a language model did, and how long its parts took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What loading a language model did.

    Attributes:
        quantized: modules of the checkpoint that are quantized, in memory or on disk, by name.
        left: modules in a recipe's scope that it could not quantize.
        seconds: spent on `read`, `cast` and `quantize`, as far as these were steps of their own.
        notes: what the user should know of this model on this machine, one line each.
    """

    quantized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the time of a block towards `what`."""
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start
