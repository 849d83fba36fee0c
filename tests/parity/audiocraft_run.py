"""segue beside AudioCraft itself, on random checkpoints as AudioCraft exports them.

`python -m tests.parity.audiocraft_run` compares live and prints (`make parity-audiocraft`); with
`--golden` it writes what `tests/engine/test_golden.py` pins without torch.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from . import audiocraft
from .audiocraft_compare import rows
from .compare import ENGINES

GOLDEN = Path(__file__).parent.parent / "golden" / "audiocraft"


def main() -> int:
    """Compare, print, and say by the exit code whether everything is equal."""
    parser = argparse.ArgumentParser(description="segue beside AudioCraft")
    parser.add_argument("--random", type=int, default=6, help="how many random configurations")
    parser.add_argument("--seed", type=int, default=1, help="the first of their seeds")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), help="of segue")
    parser.add_argument("--only", default="", help="configurations with this in their names")
    parser.add_argument("--golden", action="store_true", help="write tests/golden instead")
    args = parser.parse_args()
    if args.golden:
        write_golden(args.only)
        return 0
    seeds = range(args.seed, args.seed + args.random)
    table = Table("configuration", "what", "found", "bound", "", title="segue and AudioCraft")
    failures = count = 0
    for case in [*audiocraft.CASES, *map(audiocraft.random_case, seeds)]:
        if args.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as name:
            model, text = Path(name) / "model", Path(name) / "text"
            found = audiocraft.make(case, model, text)
            for engine in args.engines:
                for row in rows(model, text, found, engine):
                    failures, count = failures + (not row.ok), count + 1
                    result = "ok" if row.ok else "[red]FAILS"
                    what = f"{engine}: {row.what}"
                    table.add_row(case.name, what, f"{row.found:.3g}", f"{row.bound:g}", result)
        table.add_section()
    Console().print(table)
    Console().print(f"{count - failures} of {count} comparisons hold")
    return 1 if failures else 0


def write_golden(only: str) -> None:
    """Write the checkpoints and outputs that the test-suite compares with."""
    for name, case in audiocraft.GOLDEN.items():
        if only not in name:
            continue
        folder = GOLDEN / name
        shutil.rmtree(folder, ignore_errors=True)
        found = audiocraft.make(case, folder / "model", folder / "text")
        (folder / "text" / "exported.bin").unlink(missing_ok=True)
        small = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in found.items()}
        np.savez_compressed(folder / "outputs.npz", **small)


if __name__ == "__main__":
    raise SystemExit(main())
