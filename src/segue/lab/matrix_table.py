"""A matrix for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..terminal import print_table
from .report.findings import columns, notes, why_no_pick
from .results import Matrix, Row


def show(matrix: Matrix) -> None:
    """Print the table, what failed, the notes and the pick."""
    console = Console(highlight=False, markup=False)
    print_table(_table(matrix.rows), console)
    for row in matrix.rows:
        if row.status != "ok" and row.error:
            console.print(f"{row.name}: {row.error}", soft_wrap=True)
    for line in [*(f"note: {note}" for note in notes(matrix.rows)), *_pick(matrix)]:
        console.print(line, soft_wrap=True)


def _table(rows: Sequence[Row]) -> Table:
    """The columns of the report that 80 characters hold."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    shown = [column for column in columns(rows) if column.title != "perplexity"]
    for column in shown:
        head = "\n".join([*column.title.split(), *column.unit.split()])
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.status or ""]
        if row.status == "ok":
            cells = [column.text(row, with_spread=False) for column in shown]
        table.add_row(row.name, *cells)
    return table


def _pick(matrix: Matrix) -> list[str]:
    pick = matrix.pick
    if pick is None:
        return [f"no pick: {why_no_pick(matrix)}"]
    return [
        f"pick: {pick.name}",
        f"  {pick.why}",
        *(f"  {line}" for line in pick.environment),
        f"  {pick.command}",
    ]
