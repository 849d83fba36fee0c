"""See the package."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from segue import load
from segue.checkpoints.adapters import AdapterChoice
from segue.checkpoints.hugging_face import save_hugging_face
from segue.checkpoints.opening import open_checkpoint

from . import adapters, melody, reference
from .compare import ENGINES, GREEDY, TEXT, Row, compare, melody_rows, play, rows_of
from .reference import Shape

GOLDEN = Path(__file__).parent.parent / "golden"
GOLDEN_ADAPTERS = {"whole": "embeddings, projection and text encoder", "dora": "DoRA"}
"""Adapters that the test-suite compares with, by folder."""

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
    failures = count = 0
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            rows = one(shape, Path(folder))
        count += len(rows)
        failures += _add(table, shape.name, rows)
    for seed in range(args.seed, args.seed + args.random):
        with tempfile.TemporaryDirectory() as folder:
            rows = with_melody(seed, Path(folder))
        count += len(rows)
        failures += _add(table, f"melody {seed}", rows)
    for name in adapters.CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            rows = adapted(name, SHAPES[0], Path(folder))
        count += len(rows)
        failures += _add(table, f"adapter: {name}", rows)
    Console().print(table)
    Console().print(f"{count - failures} of {count} comparisons hold")
    return 1 if failures else 0


def _add(table: Table, name: str, rows: Sequence[Row]) -> int:
    """Add rows to the table; return how many fail."""
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        result = "ok" if row.ok else "[red]FAILS"
        table.add_row(name, row.what, f"{row.found:.3g}", f"{sign} {row.bound:g}", result)
    table.add_section()
    return sum(not row.ok for row in rows)


def with_melody(seed: int, folder: Path) -> list[Row]:
    """One melody model beside the reference."""
    model = melody.make_model(seed)
    reference.save(model, folder)
    found = melody.outputs(model, _ids(folder), seed)
    rows = []
    for name in ENGINES:
        compared = melody_rows(load(str(folder), engine=name).engine, found)
        rows += [replace(row, what=f"{name}: {row.what}") for row in compared]
    return rows


def adapted(name: str, shape: Shape, folder: Path) -> list[Row]:
    """One adapter by peft: merged while loading, and merged on disk for transformers."""
    base, adapter, merged = folder / "base", folder / "adapter", folder / "merged"
    model = reference.make_model(shape)
    reference.save(model, base)
    ids = _ids(base)
    found = reference.outputs(adapters.adapted(model, name, adapter), ids, shape.seed)
    rows = []
    for engine in ENGINES:
        compared = rows_of(load(str(base), engine=engine, adapters=[str(adapter)]).engine, found)
        rows += [replace(row, what=f"{engine}: {row.what}") for row in compared]
    choices = [AdapterChoice.parse(str(adapter))]
    save_hugging_face(open_checkpoint(str(base), adapters=choices), merged)
    again = reference.outputs(reference.load(merged), ids, shape.seed)
    for part in ("text_hidden", "logits_text", "logits_no_text", "decoded"):
        furthest = float(np.abs(again[part] - found[part]).max())
        rows.append(Row(f"segue merge, loaded by transformers: {part}", furthest, 1e-4))
    return rows


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
    folder = GOLDEN / "melody"
    melody_model = melody.make_model()
    reference.save(melody_model, folder)
    found = melody.outputs(melody_model, _ids(folder))
    found["melody"] = found["melody"].astype(np.float16)
    np.savez_compressed(folder / "outputs.npz", **found)
    for name in GOLDEN_ADAPTERS:
        folder = GOLDEN / "adapters" / name
        model = adapters.adapted(reference.make_model(SHAPES[0]), GOLDEN_ADAPTERS[name], folder)
        (folder / "README.md").unlink()  # a page for the hub, without content
        found = reference.outputs(model, _ids(GOLDEN / SHAPES[0].name))
        np.savez_compressed(folder / "logits.npz", text=found["logits_text"].astype(np.float32))


if __name__ == "__main__":
    raise SystemExit(main())
