"""What is printed: bars while it takes time, lines and JSON when it is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
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
from rich.table import Table
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


_UNLIMITED = 100_000
"""Columns of what is no terminal: nothing breaks a line there, and no name is cut."""


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table on standard output, without cutting or breaking a word.

    Where it is piped, its lines are as long as they need to be.  Where a terminal is too narrow for
    the longest words, each row is a paragraph: its first cell, then the others with their headings.

    Args:
        table: of plain text.
        console: to print on; None for one on standard output.
    """
    console = console or Console()
    width = console.width
    unlimited = console.options.update(max_width=_UNLIMITED)
    if not console.is_terminal:
        console.width = _UNLIMITED
        console.print(table)
        console.width = width
        return
    if Measurement.get(console, unlimited, table).minimum <= width:
        console.print(table)
        return
    names = [str(column.header).replace("\n", " ") for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (str(cell) for cell in row)
        console.print(first, highlight=False, markup=False, soft_wrap=True)
        for name, cell in zip(names[1:], others, strict=True):
            if cell:
                line = f"  {name}: {cell}" if name else f"  {cell}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)


def format_size(count: int) -> str:
    """Write bytes on disk for people: `3.2 GB`, `841 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
