"""The report of a matrix: Markdown to paste, and one HTML file to look at and listen to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...atomic import writing
from ..results import Matrix, Row
from .findings import COLUMNS_EXPLAINED, columns, describe, facts, failure, notes, why_no_pick
from .fronts import front_lines, pair_lines
from .page import page
from .plans import grid


def write_report(folder: Path, matrix: Matrix | None = None) -> list[Path]:
    """Write `report.md` and `report.html` beside a folder's `matrix.json` and WAVs.

    Args:
        folder: where they lie.
        matrix: what was measured; None reads it from the folder.

    Returns:
        The files that were written.

    Raises:
        RequestError: there is no matrix, or it cannot be read.
        OutputError: the folder cannot be written to, or the disk is full.
    """
    matrix = Matrix.read(folder) if matrix is None else matrix
    written = []
    for name, text in (("report.md", markdown(matrix)), ("report.html", page(matrix, folder))):
        path = folder / name
        with writing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        written.append(path)
    return written


def markdown(matrix: Matrix) -> str:
    """Return the pick, the table and where they come from, for an issue or a forum."""
    rows = matrix.rows
    parts = [
        f"# Quantization matrix of {_plain(matrix.model)}",
        *_pick(matrix),
        _table(rows),
    ]
    failed = [
        f"- {_plain(row.name)}: {_plain(why)}" for row in rows if (why := failure(row)) is not None
    ]
    if failed:
        parts.append("\n".join(failed))
    parts.append(f"Row 1 is the baseline. {COLUMNS_EXPLAINED}")
    parts += [f"{_plain(line)}." for line in front_lines(rows)]
    if pairs := [f"- {_plain(line)}." for line in pair_lines(rows)]:
        parts += ["Differences, with 95 % intervals of their own:", "\n".join(pairs)]
    parts += [_plan(row) for row in rows if grid(row.recipe) is not None]
    parts += [f"Note: {_plain(note)}." for note in notes(rows)]
    parts.append("\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in facts(matrix)))
    return "\n\n".join(parts) + "\n"


def _pick(matrix: Matrix) -> list[str]:
    pick = matrix.pick
    if pick is None:
        return [f"No variant was picked: {why_no_pick(matrix)}."]
    parts = [f"**Pick: {_plain(pick.name)}.** {_plain(pick.why)}"]
    for code in (pick.command, "\n".join(pick.environment)):
        if code:
            # A fence that is longer than any in it cannot be closed from inside.
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
            parts.append(f"{fence}sh\n{code}\n{fence}")
    return parts


def _table(rows: Sequence[Row]) -> str:
    shown = columns(rows)
    best = {(n, column.title) for column in shown for n in column.best(rows)}
    head = ["#", "variant", "what", *(f"{column.title}, {column.unit}" for column in shown)]
    lines = [head, ["--:", "---", "---", *("--:" for _ in shown)]]
    for n, row in enumerate(rows):
        cells = [
            f"**{column.text(row)}**" if (n, column.title) in best else column.text(row)
            for column in shown
        ]
        lines.append([str(n + 1), _plain(row.name), _plain(describe(row)), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plan(row: Row) -> str:
    """A recipe's plan as a table: bits and group size of every module."""
    found = grid(row.recipe)
    assert found is not None  # noqa: S101 - its caller has looked
    lines = [["layer", *found.units], ["--:", *("---" for _ in found.units)]]
    lines += [
        [name, *("–" if cell is None else f"{cell.bits}/{cell.group_size}" for cell in cells)]
        for name, cells in found.rows
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Bits and group size in {_plain(row.name)}:\n\n{table}"


def _plain(text: Any) -> str:
    """Text that Markdown leaves alone, on one line."""
    line = " ".join(str(text).split())
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
