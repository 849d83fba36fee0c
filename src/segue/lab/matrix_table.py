"""A matrix for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .bench_table import megabytes


def show(matrix: Mapping[str, Any], as_json: bool = False) -> None:
    """Print what `matrix.json` says."""
    console = Console(highlight=False, markup=False)
    if as_json:
        console.out(json.dumps(matrix, indent=2), highlight=False)
        return
    console.print(_table(matrix["rows"]))
    for row in matrix["rows"]:
        if row["error"]:
            console.print(f"{row['name']}: {row['error']}", soft_wrap=True)
    notes = {note: None for row in matrix["rows"] if row["bench"] for note in row["bench"]["notes"]}
    for line in [*(f"note: {note}" for note in notes), *_pick(matrix)]:
        console.print(line, soft_wrap=True)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("row", box=None, pad_edge=False)
    for column in ("ms/step", "min – max", "generate", "× real time", "peak", "weights", "KL"):
        table.add_column(column, justify="right")
    for row in rows:
        bench = row["bench"]
        if bench is None:
            table.add_row(row["name"], row["status"])
            continue
        steady, memory = bench["steady"], bench["memory"]
        low, high = ((steady or {}).get(k, bench["first_run"]) for k in ("min", "max"))
        quality = row["quality"]
        table.add_row(
            row["name"],
            f"{bench['speed']['ms_per_step']:.2f}",
            f"{low['speed']['ms_per_step']:.2f} – {high['speed']['ms_per_step']:.2f}",
            f"{bench['timings_s']['token_generate_s']:.2f} s",
            f"{bench['speed']['real_time_factor']:.2f}",
            megabytes(memory["process_peak_bytes"]),
            megabytes(memory["weights_bytes"]),
            "" if quality is None else f"{quality['kl']['overall']['mean']:.2g}",
        )
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
