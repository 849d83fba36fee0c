"""`segue models`: list the checkpoints on disk, and those that can be downloaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from .checkpoints import hub
from .checkpoints.abilities import Abilities, abilities_of, known_abilities
from .checkpoints.catalogue import CATALOGUE
from .terminal import format_size, print_json, print_line, print_table


def add_parser(commands: Any) -> None:
    """Add `segue models`."""
    parser = commands.add_parser(
        "models",
        description="List the checkpoints that are here, and those that can be downloaded.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue models`."""
    stored, trouble = hub.local_models(), hub.cache_trouble()
    names = {model.name for model in stored}
    absent = [
        (name, size, family.approximate_bytes(name))
        for size, family in CATALOGUE.items()
        for name in family
        if name not in names
    ]
    if options.json:
        report: dict[str, Any] = {
            "here": [
                {
                    "name": model.name,
                    "path": str(model.path),
                    "bytes": model.size_bytes,
                    "complete": model.complete,
                    "missing": list(model.missing),
                    "takes": list(_takes(model.name, model.path)),
                }
                for model in stored
            ],
            "to_be_had": [
                {
                    "name": name,
                    "size": size,
                    "approximate_bytes": count,
                    "takes": list(_takes(name)),
                }
                for name, size, count in absent
            ],
        }
        if trouble is not None:
            report["notes"] = [trouble]
        print_json(report)
        return 0
    table = Table("model", "", "on disk", "state", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"  # a name is there to be copied
    table.columns[2].justify = "right"
    for model in stored:
        state = "here" if model.complete else f"incomplete: no {', '.join(model.missing)}"
        kind = "melody" if "melody" in _takes(model.name, model.path) else ""
        table.add_row(model.name, kind, format_size(model.size_bytes), state)
    for name, size, count in absent:
        table.add_row(name, size, f"about {format_size(count)}", "can be downloaded")
    print_table(table)
    print_line("All take a prompt and a text; those of the kind melody follow a melody, too.")
    if trouble is not None:
        print_line(f"note: {trouble}")
    return 0


def _takes(name: str, folder: Path | None = None) -> tuple[str, ...]:
    """What a model takes, in a word each."""
    known = known_abilities(name)
    if known is None:
        known = Abilities() if folder is None else abilities_of(str(folder))
    return known.takes
