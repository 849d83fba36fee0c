"""How what a matrix found is written: the table's columns, notes, and where figures come from.

A report must be readable whatever became of a row: what is missing is a dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..figures import dig, number
from ..results import Matrix, Row

COLUMNS_EXPLAINED = (
    "The best of each column is marked. Step and speed are of generating alone, run is from "
    "prompt to sound, each the median of the runs after the first; load is reading, casting and "
    "quantizing. KL, top code and perplexity compare a variant's next-token distribution with "
    "the baseline's on the same music, without text, with each piece's own words, and guided by "
    "them; ± is half of the 95 % interval. Bits of a weight count scales and biases. Plays alike "
    "is the median until the first difference, with the same noise."
)
DASH = "–"
_EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title, unit: its head.
        value: what a row has there.
        better: `min` or `max`, or None where neither is.
        digits: how a value is written; None is `significant`.
        bound: whether a row's value is only known to be at least what it is.
        spread: how far off it may be: half of the 95 % interval.
        quality: whether it compares with the baseline, which is then not the best of anything.
    """

    title: str
    unit: str
    value: Callable[[Row], float | None]
    better: Callable[[list[float]], float] | None = None
    digits: Callable[[float], str] | None = None
    quality: bool = False
    bound: Callable[[Row], bool] = lambda _: False
    spread: Callable[[Row], float | None] = lambda _: None

    def text(self, row: Row, with_spread: bool = True) -> str:
        """Return the cell of a row."""
        value, spread = self.value(row), self.spread(row) if with_spread else None
        if value is None:
            return DASH
        text = ("≥ " if self.bound(row) else "") + (self.digits or significant)(value)
        return f"{text} ± {self._rounded_as(value, spread)}" if value and spread else text

    def _rounded_as(self, value: float, spread: float) -> str:
        """A spread with the decimals of its value."""
        written = (self.digits or significant)(value)
        if "·" in written:
            return significant(spread)
        return f"{spread:.{len(written.partition('.')[2])}f}"

    def best(self, rows: Sequence[Row]) -> list[int]:
        """Return which rows have the best value as written; none if there is nothing to compare."""
        first = 1 if self.quality else 0
        found = {n: value for n, row in enumerate(rows) if (value := self.value(row)) is not None}
        values = [value for n, value in found.items() if n >= first]
        if self.better is None or len(values) < 2:
            return []
        write = self.digits or significant
        best = write(self.better(values))
        alike = [n for n, value in found.items() if n >= first and write(value) == best]
        return alike if len(alike) < len(values) else []


def columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that at least one of the rows has something in."""
    size, byte = _byte_unit(rows)

    def scaled(count: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
        return lambda row: None if (found := count(row)) is None else found / byte

    every = [
        Column("step", "ms", lambda row: row.bench.ms_per_step, min),
        Column("speed", "× real time", lambda row: row.bench.real_time_factor, max),
        Column("load", "s", lambda row: row.bench.load_seconds, min),
        Column("run", "s", lambda row: row.bench.run_seconds, min),
        Column("weights", size, scaled(lambda row: row.bench.weights_bytes), min),
        Column("a weight", "bits", lambda row: row.bench.bits_per_weight, min),
        Column("keys and values", "bits", lambda row: row.kv_bits, digits="{:.0f}".format),
        Column("peak, engine", size, scaled(lambda row: row.bench.engine_peak_bytes), min),
        Column("peak, process", size, scaled(lambda row: row.bench.process_peak_bytes), min),
        Column("KL", "nats", lambda row: row.quality.kl, min, quality=True, spread=_kl_spread),
        Column("KL, with text", "nats", lambda row: row.quality.kl_text, min, quality=True),
        Column("KL, guided", "nats", lambda row: row.quality.kl_guided, min, quality=True),
        Column("same top code", "%", _percent_agreeing, max, quality=True),
        Column(
            "perplexity",
            "× baseline",
            lambda row: row.quality.perplexity_ratio,
            min,
            "{:.3f}".format,
            quality=True,
        ),
        Column(
            "plays alike",
            "frames",
            lambda row: row.quality.frames_until_divergence,
            max,
            "{:.0f}".format,
            quality=True,
            bound=lambda row: row.quality.never_diverged,
        ),
    ]
    return [c for c in every if any(c.value(row) is not None for row in rows)]


def _byte_unit(rows: Sequence[Row]) -> tuple[str, float]:
    counts = [
        count or 0
        for row in rows
        for count in (row.bench.weights_bytes, row.bench.process_peak_bytes)
    ]
    return ("GB", 1e9) if max(counts, default=0) >= 10e9 else ("MB", 1e6)


def _kl_spread(row: Row) -> float | None:
    ends = row.quality.kl_ci95
    return None if ends is None else (ends[1] - ends[0]) / 2


def _percent_agreeing(row: Row) -> float | None:
    share = row.quality.top1_agreement
    return None if share is None else 100 * share


def significant(value: float) -> str:
    """Write three digits; below a thousandth as a power of ten: 1234, 0.0123, 4.5·10⁻⁶."""
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}·10{str(int(exponent)).translate(_EXPONENTS)}"
    # Rounded first: 9.999 is 10.0, and has a digit less behind the point.
    digits = math.floor(math.log10(abs(float(f"{value:.3g}"))))
    return f"{value:.{2 - digits}f}"


def moment(written: str | None) -> str | None:
    """Write a time in ISO 8601 as people do; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(written or '').astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return written


def describe(row: Row) -> str:
    """Return a row's variant in words: what is cast and quantized."""
    parts = [f"cast to {row.cast_dtype}"] if row.cast_dtype else []
    if row.recipe is not None:
        mode = row.recipe.get("mode")
        method = row.recipe.get("method")
        size = f"{row.recipe.get('bits')} bits, groups of {row.recipe.get('group_size')}"
        parts.append(
            f"{_planned(row.recipe) or size}, {row.recipe.get('scope')}"
            + (f", {mode}" if mode not in (None, "affine") else "")
            + (f", {method}" if method not in (None, "nearest") else "")
        )
    if row.checkpoint is not None:
        parts.append(f"{row.checkpoint}, as stored")
    if row.kv_bits is not None:
        parts.append(f"keys and values in {row.kv_bits} bits")
    if row.activations is not None:
        parts.append(f"activations in {row.activations}")
    return "; ".join(parts) or "as stored"


def _planned(recipe: Mapping[str, Any]) -> str | None:
    """The widths that a plan gives modules; None without a plan that can be read."""
    modules = dig(recipe, "plan", "modules")
    if not isinstance(modules, Mapping):
        return None
    widths = {width for each in modules.values() if (width := number(each, "bits")) is not None}
    if not widths:
        return None
    least, most = min(widths), max(widths)
    return f"{least:g} to {most:g} bits by a plan" if least < most else f"{least:g} bits by a plan"


def failure(row: Row) -> str | None:
    """Return why a row has no figures, or None if it has."""
    if row.status == "ok":
        return None
    if row.status == "missing":
        return "not run yet"
    return f"failed: {row.error or 'no reason was given'}"


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes of all measurements, each once, without their full stops."""
    found = [note for row in rows for note in row.bench.notes]
    engines = sorted({row.bench.engine for row in rows if row.bench.engine})
    if len(engines) > 1:
        found.append(f"The rows ran on {' and '.join(engines)}: their times do not compare")
    found += [f"{row.name}: {row.error}" for row in rows if failure(row) is None and row.error]
    return list(dict.fromkeys(note.rstrip(".") for note in found))


def why_no_pick(matrix: Matrix) -> str:
    """Return why there is no pick, in half a sentence."""
    if all(row.quality.kl is None for row in matrix.rows):
        return "quality was not measured"
    if matrix.max_kl is None:
        return "none stays within the budget"
    return f"none stays within {matrix.max_kl:g} nats a token"


def facts(matrix: Matrix) -> list[tuple[str, str]]:
    """Return where the figures come from: what ran, on what, with what."""
    pairs: list[tuple[str, Any]] = [
        ("model", matrix.model),
        ("base model", matrix.base_model),
        ("prompt", matrix.prompt),
        ("seed", matrix.seed),
    ]
    request = matrix.request
    if isinstance(request, Mapping):
        pairs += _flat({name: request[name] for name in request if name != "engine"}, "request")
    pairs += [("ran on", _ran_on(matrix.rows)), ("quality measured on", _measured_on(matrix.rows))]
    pairs += [("created", moment(matrix.created))]
    pairs += _flat(matrix.machine, "machine")
    pairs += _flat(matrix.versions, "versions")
    pairs += [("KL budget, nats", matrix.max_kl)]
    return [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]


def _ran_on(rows: Sequence[Row]) -> str:
    """The engines of the rows, and in what they computed."""
    names = {
        f"{row.bench.engine} ({row.bench.device}), in {row.bench.dtype}"
        for row in rows
        if row.bench.engine
    }
    return "; ".join(sorted(names))


def _measured_on(rows: Sequence[Row]) -> str:
    """The music that KL and its like come from, as the first measured row has it."""
    quality = next((row.quality for row in rows if row.quality.prompts), None)
    if quality is None or quality.tokens is None:
        return ""
    whose = "segue's own prompts" if quality.built_in else "prompts"
    return (
        f"{quality.prompts} of {whose}, {quality.music_seconds:.0f} s of music, "
        f"{quality.tokens:.0f} tokens"
    )


def _flat(found: Any, name: str) -> list[tuple[str, Any]]:
    """The pairs of a mapping, with readable names; anything else under `name`."""
    if not isinstance(found, Mapping):
        return [(name, found)]
    pairs = []
    for key, value in found.items():
        label = str(key).replace("_", " ")
        if str(key).endswith("_bytes") and isinstance(value, int | float):
            label, value = label.removesuffix(" bytes"), f"{value / 1e9:.1f} GB"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        pairs.append((label, value))
    return pairs
