"""`segue models`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from .checkpoints import hub
from .checkpoints.catalogue import CATALOGUE


def add_parser(commands: Any) -> None:
    """Add `segue models`."""
    parser = commands.add_parser(
        "models",
        help="what checkpoints are here, and what can be had",
        description="List the checkpoints that are here, and those that can be downloaded.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`segue models`: what is here, and what can be had."""
    here, trouble = hub.local_models(), hub.cache_trouble()
    names = {model.name for model in here}
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
                }
                for model in here
            ],
            "to_be_had": [
                {"name": name, "size": size, "approximate_bytes": count}
                for name, size, count in absent
            ],
        }
        if trouble is not None:
            report["notes"] = [trouble]
        Console().out(json.dumps(report, indent=2), highlight=False)
        return 0
    table = Table("model", "", "on disk", "state", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for model in here:
        state = "here" if model.complete else f"incomplete: no {', '.join(model.missing)}"
        table.add_row(model.name, "", size_of(model.size_bytes), state)
    for name, size, count in absent:
        table.add_row(name, size, f"about {size_of(count)}", "can be downloaded")
    Console().print(table)
    if trouble is not None:
        Console().print(f"note: {trouble}", highlight=False, markup=False, soft_wrap=True)
    return 0


def size_of(count: int) -> str:
    """Bytes on disk, for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
