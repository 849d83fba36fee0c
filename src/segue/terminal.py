"""What is printed: bars while it takes time, lines and JSON when it is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

_ESTIMATED_OVER = 600.0
"""Seconds that the time left is reckoned by: a layer of a large model takes minutes."""


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
            speed_estimate_period=_ESTIMATED_OVER,
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
    """Return bars if they are wanted and standard error is a terminal, else silence."""
    return TerminalProgress(Console(stderr=True)) if wanted and sys.stderr.isatty() else SILENT


def print_json(content: Any) -> None:
    """Print JSON on standard output, as it is on any terminal."""
    Console().out(json.dumps(content, indent=2), highlight=False)


def print_line(line: str, wrap: bool = False) -> None:
    """Print text that may hold anything, on standard output.

    Args:
        line: what is printed as it is, brackets and colons too.
        wrap: break it between words at the terminal's width; paths and commands stay whole.
    """
    Console().print(line, highlight=False, markup=False, soft_wrap=not wrap)


def format_size(count: int) -> str:
    """Write bytes on disk for people: `3.2 GB`, `841 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
