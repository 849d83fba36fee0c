"""How a wait is shown: one small interface, silent unless somebody listens.

Everything that takes time (download, load, encode, prefill, generate, decode, write) runs inside a
stage of a `Progress`.  The command line draws the stages as bars, the service turns them into
`progress` and `queue_status`; a library caller gets silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Says how far a stage has come."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Set the absolute position to `done`, and the length to `total` where it became known."""


class Progress:
    """Stages of work that nobody watches.  Override `stage` to show them."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Wrap one wait.

        Args:
            name: what is waited for, in the words of the user: `"generate"`, `"download t5-base"`.
            total: how many units the stage has, or None while that is unknown.
            unit: what is counted: `"frames"`, `"B"` (bytes) or nothing.
        """
        yield lambda done, total=None: None


SILENT = Progress()
