"""`segue download`: get a checkpoint, with all that it needs, before it is used."""

from __future__ import annotations

import argparse
from typing import Any

from .checkpoints import hub
from .checkpoints.catalogue import CATALOGUE
from .errors import CheckpointError
from .options import add_base_option
from .service.jobs.missing_files import missing_repositories
from .terminal import format_size, print_json, print_line, progress_for


def add_parser(commands: Any) -> None:
    """Add `segue download`."""
    parser = commands.add_parser(
        "download",
        description="Get a checkpoint from the Hugging Face hub, with all that it needs: the text "
        "encoder and the codec of a fine-tune, too. What is interrupted goes on where it was when "
        "the same is run again.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a repository of the Hugging Face hub")
    add_base_option(parser)
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue download`."""
    name: str = options.model
    base = options.base_model or _base_of(name)
    progress = progress_for(not options.no_progress)
    downloaded: list[dict[str, Any]] = []
    for _ in range(2):  # the model; then what it turns out to need
        for repository in missing_repositories(name, base):
            total, missing = hub.size(repository)
            if not options.json:
                here = "" if missing == total else f", of which {format_size(missing)} are missing"
                print_line(f"{repository}: {format_size(total)}{here}")
            path = hub.locate(repository, progress=progress)
            downloaded.append(
                {"name": repository, "bytes": total, "missing_bytes": missing, "path": str(path)}
            )
    if left := missing_repositories(name, base):
        raise CheckpointError(f"{', '.join(left)} did not arrive whole; run it again")
    path = hub.locate(name)
    if options.json:
        print_json({"model": name, "path": str(path), "downloaded": downloaded})
        return 0
    print_line(f"{name} is here{'' if downloaded else ' already'}: {path}")
    print_line(f"segue continue song.wav --model {name}")
    return 0


def _base_of(name: str) -> str | None:
    """The catalogue's base of a fine-tune, whose codec and text encoder can be used."""
    families = (family for family in CATALOGUE.values() if name in family.fine_tunes)
    return next((family.base for family in families), None)
