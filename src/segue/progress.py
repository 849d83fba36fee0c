"""Report the progress of long operations: one small interface, silent by default.

Every long operation (download, load, encode, prefill, generate, decode, write) runs inside a stage
of a `Progress`.  The command line shows the stages as bars, the service turns them into `progress`
and `queue_status`; for a library caller nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Reports the position of a stage."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Report a position.

        Args:
            done: the absolute position, in the stage's unit.
            total: the length of the stage, where it has become known or changed.
        """


class Progress:
    """Stages of work, not shown.  Override `stage` to show them."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Wrap one long operation.

        Args:
            name: of the operation, as users see it: `"generate"`, `"download t5-base"`.
            total: the length of the stage in units; None while it is not known.
            unit: `"frames"`, `"B"` (bytes), or empty.

        Yields:
            The function to call with the position.
        """
        yield lambda done, total=None: None


SILENT = Progress()
