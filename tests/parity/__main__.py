"""See the package."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from segue import load

from . import reference
from .compare import ENGINES, GREEDY, TEXT, Row, compare, play
from .reference import Shape

GOLDEN = Path(__file__).parent.parent / "golden"
SHAPES = (
    Shape("mono", filters=2),
    Shape("stereo", stereo=True, filters=2),
    Shape("wide", dim=96, heads=3, layers=3),
)


def main() -> int:
    """Compare, print, and say by the exit code whether everything holds."""
    parser = argparse.ArgumentParser(description="segue beside transformers")
    parser.add_argument("--random", type=int, default=3, help="how many random configurations")
    parser.add_argument("--seed", type=int, default=1, help="the first of their seeds")
    parser.add_argument("--golden", action="store_true", help="write tests/golden instead")
    args = parser.parse_args()
    if args.golden:
        write_golden()
        return 0
    shapes = [*SHAPES, *(Shape.random(args.seed + n) for n in range(args.random))]
    table = Table("configuration", "what", "found", "bound", "", title="segue and transformers")
    failures = 0
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            rows = one(shape, Path(folder))
        for row in rows:
            sign = "≥" if row.at_least else "≤"
            table.add_row(
                shape.name,
                row.what,
                f"{row.found:.3g}",
                f"{sign} {row.bound:g}",
                "ok" if row.ok else "[red]FAILS",
            )
            failures += not row.ok
        table.add_section()
    Console().print(table)
    return 1 if failures else 0


def one(shape: Shape, folder: Path) -> list[Row]:
    """One configuration: both layouts beside the reference."""
    hf, audiocraft = folder / "hf", folder / "audiocraft"
    model = reference.make_model(shape)
    reference.save(model, hf)
    reference.save_audiocraft(hf, audiocraft)
    found = reference.outputs(model, _ids(hf), shape.seed)
    rows = []
    for name in ENGINES:
        compared = compare(hf, found, name)
        engine = load(str(audiocraft), base_model=str(hf), engine=name).engine
        compared.append(
            Row(
                "AudioCraft layout, codes that differ",
                float((play(engine, found, None, GREEDY) != found["greedy_no_text"]).sum()),
                0,
            )
        )
        rows += [replace(row, what=f"{name}: {row.what}") for row in compared]
    return rows


def _ids(folder: Path) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids


def write_golden() -> None:
    """Write the checkpoints and outputs that the test-suite compares with."""
    for shape in SHAPES[:2]:
        folder = GOLDEN / shape.name
        model = reference.make_model(shape)
        reference.save(model, folder)
        found = reference.outputs(model, _ids(folder))
        small = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in found.items()}
        np.savez_compressed(folder / "outputs.npz", **small)


if __name__ == "__main__":
    raise SystemExit(main())
