"""What each step of rounding and planning buys, beside what it was to buy.

`python -m benchmarks.quantization --table` makes every recipe and every quantized checkpoint with
segue's own commands, each in a process of its own, and measures them with `segue quality` on the
held-out pieces.  What is done is kept in a folder by step: a run that was stopped goes on from
there, and a second one prints at once.  A step is made anew when its command, the checkpoint, or
a method's version changes.

The first recipe begins with an empty cache, which is what its time is worth; the other recipes find
the units' losses that it measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.recipe import METHODS
from segue.checkpoints.recipe_file import read_recipe_file
from segue.errors import SegueError
from segue.lab.figures import QualityFigures, number
from segue.lab.files import read_json
from segue.lab.machine import is_busy, machine, versions
from segue.lab.quality.report import SCHEMA as QUALITY_SCHEMA
from segue.outputs import write_json
from segue.quantization.methods import VERSIONS
from segue.quantization.sensitivity_cache import weights_digest

FOLDER = Path(__file__).parents[1] / "experiments" / "mlx_quantization" / "reports" / "table"

SCHEMA = 1

ASKED_SECONDS = 240.0
"""For a recipe with GPTQ, from an empty cache on two cores."""

BITS = 4 + 32 / 64
"""Of a weight at 4 bits in groups of 64, scale and bias in float16 counted."""

QUALITY = ("--judge", "full", "--variations", "1", "--output-seconds", "6.2")
"""Options of `segue quality`: the forty pieces, and takes as short as they can be."""

Json = dict[str, Any]
Run = Callable[[Sequence[str], Mapping[str, str]], None]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of its files.
        what: for people.
        method: one of `METHODS`; of a version without it the row is left out.
        asked: the most that it was to lose, as a share of what the nearest value loses at 4 bits in
            groups of 64; None for no such goal.
        plan: the options of `segue recipe`; None for 4 bits in groups of 64 throughout.
        recipe: the row whose recipe it uses; None for its own.
    """

    name: str
    what: str
    method: str
    asked: float | None
    plan: tuple[str, ...] | None = None
    recipe: str | None = None


def _budget(bits: float, *more: str) -> tuple[str, ...]:
    return ("--budget-bits", f"{bits:g}", *more)


ROWS = (
    Row("q4", "4 bits in groups of 64", "nearest", None),
    Row("search", "4 bits in groups of 64", "search", 0.75),
    Row("gptq", "4 bits in groups of 64", "gptq", 0.467),
    Row("recipe-4.5", "recipe, cross-attention ≥ 4 bits", "gptq", 0.355, _budget(4.5)),
    Row(
        "recipe-4.5-distill",
        "recipe, cross-attention ≥ 4 bits",
        "gptq+distill",
        0.318,
        _budget(4.5),
        "recipe-4.5",
    ),
    Row("recipe-5.0", "recipe, cross-attention ≥ 4 bits", "gptq", 0.15, _budget(5)),
    Row("recipe-3.5", "recipe", "gptq", 1.0, _budget(3.5, "--cross-bits", "2")),
    Row("recipe-3.5-cross", "recipe, cross-attention ≥ 4 bits", "gptq", None, _budget(3.5)),
    Row("widths-5.0", "recipe, 4 and 8 bits only", "gptq", 0.28, _budget(5, "--widths", "4", "8")),
)

FIRST = "recipe-4.5"
"""The row whose recipe is made from an empty cache, and timed."""


def child(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command of segue's in a process of its own.

    Raises:
        SystemExit: it failed, after it said why.
    """
    command = [sys.executable, "-m", "segue", *words]
    code = subprocess.run(  # noqa: S603 - our own command
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
    ).returncode
    if code:
        raise SystemExit(f"segue {words[0]} ended with {code}; what was done before is kept")


class Work:
    """A table in a folder.

    Args:
        folder: where; what an earlier run left there is used.
        model: a checkpoint.
        quality: options of `segue quality`, such as which judge.
        music: options of `segue recipe` and `segue quantize` that say what methods look at.
        rows: what is measured.
        run: runs a command.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        quality: Sequence[str] = (),
        music: Sequence[str] = (),
        rows: Sequence[Row] = ROWS,
        run: Run = child,
    ) -> None:
        self.folder, self._model, self._run = folder, model, run
        self._quality, self._music, self._rows = quality, music, rows
        self._weights = weights_digest(open_checkpoint(model))
        for part in ("recipes", "models", "quality"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._file = folder / "steps.json"
        try:
            self._steps: Json = read_json(self._file, SCHEMA)
        except SegueError:
            self._steps = {"schema": SCHEMA}

    def measured(self) -> Json:
        """Do what is not done yet, and return the table."""
        found, left_out = [], []
        for row in self._rows:
            if row.method not in METHODS:
                left_out.append(f"{row.name} is left out: no method {row.method} in this version")
                continue
            print(f"{row.name} ({row.method})", file=sys.stderr, flush=True)
            found.append(self._row(row))
        first: Json = next((row["recipe"] for row in found if row["name"] == FIRST), {})
        return {
            "schema": SCHEMA,
            "model": self._model,
            "weights_sha256": self._weights,
            "machine": machine(),
            "versions": versions(),
            "rows": found,
            "left_out": left_out,
            "time": {"asked": ASKED_SECONDS} | {k: first.get(k) for k in ("seconds", "busy")},
        }

    def _row(self, row: Row) -> Json:
        method, recipe, made = row.method, ["--recipe", "q4"], None
        bits = BITS
        if row.plan is not None:
            of = next(each for each in self._rows if each.name == (row.recipe or row.name))
            path, made = self._recipe(of)
            recipe, bits = ["--recipe", str(path)], read_recipe_file(path)["bits"]
        words = [*recipe, "--method", method]
        if METHODS[method]:
            words += self._music
        quantized = self.folder / "models" / row.name
        step = self._step(
            f"models/{row.name}",
            ["quantize", self._model, str(quantized), *words],
            [_versions(method), None if made is None else made["command"]],
            quantized,
        )
        report = self.folder / "quality" / f"{row.name}.json"
        words = ["--variant", str(quantized), *self._quality, "--report-json", str(report)]
        self._step(f"quality/{row.name}", ["quality", self._model, *words], step["command"], report)
        kl = QualityFigures.from_json(read_json(report, QUALITY_SCHEMA))
        return {
            "name": row.name,
            "what": row.what,
            "method": method,
            "bits": bits,
            "kl": kl.kl,
            "kl_ci95": kl.kl_ci95,
            "kl_text": kl.kl_text,
            "kl_guided": kl.kl_guided,
            "asked": row.asked,
            "seconds": step["seconds"],
            "recipe": made,
        }

    def _recipe(self, row: Row) -> tuple[Path, Json]:
        assert row.plan is not None  # noqa: S101 - asked for of such rows alone
        path = self.folder / "recipes" / f"{row.name}.json"
        words = ["recipe", self._model, *row.plan, "--method", row.method, *self._recipe_music()]
        words += ["-o", str(path)]
        fresh = self.folder / "cache" if row.name == FIRST else None
        return path, self._step(f"recipes/{row.name}", words, _versions(row.method), path, fresh)

    def _recipe_music(self) -> list[str]:
        return ["--seed" if word == "--calibration-seed" else word for word in self._music]

    def _step(
        self, name: str, words: Sequence[str], facts: Any, made: Path, fresh: Path | None = None
    ) -> Json:
        """Run a command unless what it makes is there; `fresh` is emptied before."""
        command = [self._weights, [w.replace(str(self.folder), ".") for w in words], facts]
        known = self._steps.get(name)
        if known is not None and known["command"] == command and made.exists():
            return dict(known)
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        cached = {} if words[0] == "quality" else {"XDG_CACHE_HOME": str(self.folder / "cache")}
        started = time.perf_counter()
        self._run(words, cached)
        step = {"command": command, "seconds": time.perf_counter() - started, "busy": is_busy()}
        self._steps[name] = step
        write_json(self._file, self._steps)
        return step


def _versions(method: str) -> dict[str, int]:
    """The versions of all that a method is made of."""
    return {name: version for name, version in VERSIONS.items() if name in method}


def markdown(table: Mapping[str, Any]) -> str:
    """Write a table for people."""
    rows = table["rows"]
    reference = next((row["kl"] for row in rows if row["name"] == ROWS[0].name), None)
    lines = [
        "| variant | method | bits | KL, nats | with text | guided | × q4 | asked | seconds |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        ratio = None if not reference else row["kl"] / reference
        seconds = row["seconds"] + (number(row, "recipe", "seconds") or 0.0)
        spread = "" if row["kl_ci95"] is None else f" ± {(row['kl_ci95'][1] - row['kl']):.2g}"
        cells = [
            row["what"],
            row["method"],
            f"{row['bits']:.2f}",
            f"{_nats(row['kl'])}{spread}",
            _nats(row["kl_text"]),
            _nats(row["kl_guided"]),
            "–" if ratio is None else f"{ratio:.3f}",
            "–" if row["asked"] is None else f"≤ {row['asked']:g}",
            f"{seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"{line}." for line in table["left_out"])]
    seconds = number(table, "time", "seconds")
    if seconds is not None:
        busy = ", beside other work" if table["time"]["busy"] else ""
        lines.append(
            f"`segue recipe` with GPTQ for {FIRST.removeprefix('recipe-')} bits, from an empty "
            f"cache: {seconds:.0f} s on {table['machine']['cores']} cores{busy}; asked "
            f"≤ {table['time']['asked']:g} s."
        )
    return "\n".join(lines).strip() + "\n"


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def printed(file: Path) -> None:
    """Print a table that was written before.

    Raises:
        RequestError: there is none in the file.
    """
    print(markdown(read_json(file, SCHEMA)), end="")


def run(folder: Path, model: str, takes: int, seed: int) -> None:
    """Measure, write `table.json` and `table.md` to the folder, and print.

    Args:
        folder: where; see `Work`.
        model: a checkpoint with the built-in one's codec.
        takes: of the model's own that methods look at.
        seed: of the first of them.
    """
    music = ("--self-takes", str(takes), "--calibration-seed", str(seed))
    table = Work(folder.resolve(), model, QUALITY, music).measured()
    write_json(folder / "table.json", table)
    text = markdown(table)
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    print(folder / "table.json", file=sys.stderr)
