"""What a person at a terminal sees: bars while it takes time, a table when it is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from .progress import SILENT, Advance, Progress


class _AmountColumn(ProgressColumn):
    """Bytes as bytes, anything else as `m/n`, nothing where the length is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(binary_units=False), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        """See `rich.progress.ProgressColumn`."""
        if task.total is None:
            return Text("")
        if task.fields["unit"] == "B":
            return self._bytes.render(task)
        return self._count.render(task).append(f" {task.fields['unit']}")


class TerminalProgress(Progress):
    """A bar for each stage, on the error stream, gone when the stage is."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            _AmountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._open = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress.stage`."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(name, total=total, unit=unit)

        def advance(done: int, total: int | None = None) -> None:
            self._bars.update(task, completed=done, total=total)

        try:
            yield advance
        finally:
            self._bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


def progress_for(wanted: bool) -> Progress:
    """Bars if they are wanted and somebody sees them, else silence."""
    return TerminalProgress(Console(stderr=True)) if wanted and sys.stderr.isatty() else SILENT
