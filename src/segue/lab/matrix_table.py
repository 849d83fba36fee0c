"""A matrix for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .report.findings import columns, notes


def show(matrix: Mapping[str, Any], as_json: bool = False) -> None:
    """Print what `matrix.json` says."""
    console = Console(highlight=False, markup=False)
    if as_json:
        console.out(json.dumps(matrix, indent=2), highlight=False)
        return
    rows = matrix["rows"]
    console.print(_table(rows))
    for row in rows:
        if row["status"] != "ok" and row["error"]:
            console.print(f"{row['name']}: {row['error']}", soft_wrap=True)
    for line in [*(f"note: {note}" for note in notes(rows)), *_pick(matrix)]:
        console.print(line, soft_wrap=True)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The columns of the report that 80 characters hold."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    shown = [column for column in columns(rows) if column.title != "perplexity"]
    for column in shown:
        head = "\n".join([*column.title.split(), *column.unit.split()])
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = [row["status"]]
        if row["status"] == "ok":
            cells = [column.text(row, with_spread=False) for column in shown]
        table.add_row(row["name"], *cells)
    return table


def _pick(matrix: Mapping[str, Any]) -> list[str]:
    pick = matrix["pick"]
    if pick is None:
        if not matrix["request"]["quality"]:
            return ["no pick: quality was not measured"]
        return [f"no pick: no row stays within {matrix['max_kl']:g} nats a token"]
    return [
        f"pick: {pick['name']}",
        f"  {pick['why']}",
        *(f"  {line}" for line in pick["environment"]),
        f"  {pick['command']}",
    ]
