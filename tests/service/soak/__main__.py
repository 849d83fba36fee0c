"""`make soak`: every proof, long; `--quick` for a short form.

    python -m tests.service.soak [--quick] [PROOF ...]

Exits with 1 if something was not as it must be.  Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from segue.demo.toy import write_checkpoint

from ..server import Server
from .crowd import crowd
from .disk import full_disk, limited_files
from .figures import Figures
from .fuzz import fuzz
from .hostile import hostile
from .hour import hour
from .kills import kills

_say = functools.partial(print, flush=True)

PROOFS = ("crowd", "kills", "hour", "hostile", "disk", "limit", "fuzz")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.soak", description=__doc__)
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=f"of {', '.join(PROOFS)}")
    parser.add_argument("--quick", action="store_true", help="a short form of each")
    options = parser.parse_args()
    if unknown := set(options.proofs) - set(PROOFS):
        parser.error(f"there is no proof {', '.join(sorted(unknown))}")
    began = time.monotonic()
    failed = []
    _say(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}")
    with tempfile.TemporaryDirectory(prefix="segue-soak-") as folder:
        for name in options.proofs or PROOFS:
            (Path(folder) / name).mkdir()
            if not _passes(name, Path(folder) / name, options.quick):
                failed.append(name)
    _say(f"{time.monotonic() - began:.0f} s in all; ", end="")
    _say(f"failed: {', '.join(failed)}" if failed else "everything was as it must be")
    return 1 if failed else 0


def _passes(name: str, folder: Path, quick: bool) -> bool:
    began = time.monotonic()
    try:
        figures = _proof(name, folder, quick)
    except BaseException as error:
        _say(traceback.format_exc())
        _say(f"{name}: FAILED")
        if not isinstance(error, Exception):
            raise
        return False
    _say(f"\n{figures}\n  ({time.monotonic() - began:.0f} s)")
    return True


def _proof(name: str, folder: Path, quick: bool) -> Figures:
    toy = write_checkpoint(folder / "toy")
    options = ("--models", str(toy), "--default-model", f"local/{toy.name}", "--threads", "1")
    alone: dict[str, Callable[[], Figures]] = {
        "disk": lambda: full_disk(folder, *options),
        "limit": lambda: limited_files(folder, *options),
    }
    if name in alone:
        return alone[name]()
    served: dict[str, Callable[[Server], Figures]] = {
        "crowd": lambda server: crowd(server, 64),
        "kills": lambda server: kills(server, 4 if quick else 20),
        "hour": lambda server: hour(server, 30 if quick else 100),
        "hostile": lambda server: hostile(server, quick),
        "fuzz": lambda server: fuzz(server, 30 if quick else 300, 30 if quick else 240),
    }
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        return served[name](server)


if __name__ == "__main__":
    sys.exit(main())
