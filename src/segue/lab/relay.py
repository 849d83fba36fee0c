"""Progress of one process, shown by another: a line of JSON on standard output for each news."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from ..progress import Advance, Progress

_SECONDS_BETWEEN = 0.1
"""Nobody sees more, and writing and reading it would take time from what is measured."""


class Relay(Progress):
    """Stages that `replay` shows in the process that started this one.

    Where that one is gone, a `BrokenPipeError` ends this one too: nobody waits for it any more.
    """

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress.stage`."""
        last = time.monotonic()

        def advance(done: int, total: int | None = None) -> None:
            nonlocal last
            if total is not None or time.monotonic() - last >= _SECONDS_BETWEEN:
                last = time.monotonic()
                _tell(done=done, total=total)

        _tell(stage=name, total=total, unit=unit)
        try:
            yield advance
        finally:
            _tell(end=name)


def _tell(**news: object) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def replay(lines: Iterable[str], progress: Progress) -> None:
    """Show the stages that a `Relay` told of, until its `lines` end; any other line is skipped."""
    shown: list[tuple[ExitStack, Advance]] = []
    try:
        for line in lines:
            try:
                news = json.loads(line)
            except ValueError:
                continue
            if "stage" in news:
                stack = ExitStack()
                stage = progress.stage(news["stage"], news["total"], news["unit"])
                shown.append((stack, stack.enter_context(stage)))
            elif "end" in news:
                shown.pop()[0].close()
            else:
                shown[-1][1](news["done"], news["total"])
    finally:
        while shown:
            shown.pop()[0].close()
