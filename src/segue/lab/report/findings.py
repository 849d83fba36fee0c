"""What a matrix found, read from its JSON with care, and how it is written.

A report must be readable whatever became of a row: what is missing, or no number, is a dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..files import read_json

SCHEMA = 1
COLUMNS_EXPLAINED = (
    "The best of each column is marked. Step and speed are of generating alone, run is from "
    "prompt to sound, each the median of the runs after the first; load is reading, casting and "
    "quantizing. KL, top code and perplexity compare a variant's next-token distribution with "
    "the baseline's on the same music; ± is half of the 95 % interval. Plays alike is the median "
    "until the first difference, with the same noise."
)
DASH = "–"
_EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def read(folder: Path) -> dict[str, Any]:
    """The `matrix.json` of a folder.

    Raises:
        RequestError: there is none, or it is none.
    """
    matrix = read_json(folder / "matrix.json", SCHEMA)
    matrix["rows"] = [row for row in matrix.get("rows") or [] if isinstance(row, dict)]
    return matrix


def dig(found: Any, *names: str) -> Any:
    """What lies at the end of `names`, or None."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def number(found: Any, *names: str) -> float | None:
    """The finite number at the end of `names`, or None; of several runs, their median."""
    value = dig(found, *names)
    if isinstance(value, Mapping):
        value = value.get("median", value.get("mean"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(found: Any, *names: str) -> tuple[float, float] | None:
    """The pair of finite numbers at the end of `names`, in order, or None."""
    pair = dig(found, *names)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    ends = [number({"end": end}, "end") for end in pair]
    if ends[0] is None or ends[1] is None:
        return None
    return min(ends[0], ends[1]), max(ends[0], ends[1])


def kl(row: Any) -> float | None:
    """The mean KL divergence from the baseline, in nats per token."""
    return number(row, "quality", "kl", "overall", "mean")


def _kl_spread(row: Any) -> float | None:
    ends = interval(row, "quality", "kl", "overall", "ci95")
    return None if ends is None else (ends[1] - ends[0]) / 2


def ms_per_step(row: Any) -> float | None:
    """Milliseconds of a decode step."""
    return _first(row, ("speed", "ms_per_step"), ("ms_per_step",))


def load_seconds(row: Any) -> float | None:
    """Seconds until a model could play: loaded, cast and quantized."""
    parts = ("model_load_s", "cast_dtype_s", "quantize_s")
    found = [number(row, "bench", "timings_s", part) for part in parts]
    return None if found[0] is None else sum(seconds or 0.0 for seconds in found)


def run_seconds(row: Any) -> float | None:
    """Seconds from a prompt to its continuation, by a model that is loaded."""
    steady = number(row, "bench", "steady", "median", "timings_s", "total_s")
    first = number(row, "bench", "first_run", "timings_s", "total_s")
    return first if steady is None else steady


def music_seconds(bench: Any) -> float | None:
    """Seconds of new music in a run of a bench: what follows the join."""
    shapes = dig(bench, "shapes")
    samples, join = dig(shapes, "samples"), number(shapes, "join_sample")
    rate = number(shapes, "sample_rate")
    if not isinstance(samples, list) or not samples or join is None or not rate:
        return None
    whole = number({"samples": samples[0]}, "samples")
    return None if whole is None else (whole - join) / rate


def real_time_factor(row: Any) -> float | None:
    """Seconds of music that are generated in a second."""
    return _first(row, ("speed", "real_time_factor"), ("real_time_factor",))


def speed_range(row: Any) -> tuple[float, float] | None:
    """The slowest and the fastest run's `real_time_factor`."""
    steady = dig(row, "bench", "steady")
    ends = [number(steady, end, "speed", "real_time_factor") for end in ("min", "max")]
    return interval({"ends": ends}, "ends")


def weight_bytes(row: Any) -> float | None:
    """Bytes of the language model's weights."""
    return _first(row, ("memory", "weights_bytes"), ("weight_bytes",))


def engine_peak_bytes(row: Any) -> float | None:
    """The most memory that the engine had allocated."""
    return _first(row, ("memory", "engine_peak_bytes"), ("peak_memory_bytes", "mlx"))


def process_peak_bytes(row: Any) -> float | None:
    """The most memory that the process had resident."""
    return _first(row, ("memory", "process_peak_bytes"), ("peak_memory_bytes", "process"))


def frames_until_divergence(row: Any) -> float | None:
    """Frames for which a row plays exactly what the baseline does, given the same noise."""
    return number(row, "quality", "free_running", "median_frames")


def _never_diverged(row: Any) -> bool:
    limit = number(row, "quality", "free_running", "limit_frames")
    return limit is not None and (frames_until_divergence(row) or 0) >= limit


def _first(row: Any, *paths: tuple[str, ...]) -> float | None:
    """A bench's figure, which may lie in one of several places."""
    found = (number(row, "bench", *names) for names in paths)
    return next((value for value in found if value is not None), None)


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
    value: Callable[[Any], float | None]
    better: Callable[[list[float]], float] | None = None
    digits: Callable[[float], str] | None = None
    quality: bool = False
    bound: Callable[[Any], bool] = lambda _: False
    spread: Callable[[Any], float | None] = lambda _: None

    def text(self, row: Any, with_spread: bool = True) -> str:
        """The cell of a row."""
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

    def best(self, rows: list[Any]) -> list[int]:
        """Which rows have the best value, as it is written; none if there is nothing to compare."""
        first = 1 if self.quality else 0
        found = {n: value for n, row in enumerate(rows) if (value := self.value(row)) is not None}
        values = [value for n, value in found.items() if n >= first]
        if self.better is None or len(values) < 2:
            return []
        write = self.digits or significant
        best = write(self.better(values))
        alike = [n for n, value in found.items() if n >= first and write(value) == best]
        return alike if len(alike) < len(values) else []


def columns(rows: Sequence[Any]) -> list[Column]:
    """The columns that at least one of the rows has something in."""
    size, byte = _byte_unit(rows)

    def scaled(count: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
        return lambda row: None if (found := count(row)) is None else found / byte

    every = [
        Column("step", "ms", ms_per_step, min),
        Column("speed", "× real time", real_time_factor, max),
        Column("load", "s", load_seconds, min),
        Column("run", "s", run_seconds, min),
        Column("weights", size, scaled(weight_bytes), min),
        Column("peak, engine", size, scaled(engine_peak_bytes), min),
        Column("peak, process", size, scaled(process_peak_bytes), min),
        Column("KL", "nats", kl, min, quality=True, spread=_kl_spread),
        Column("same top code", "%", _percent_agreeing, max, quality=True),
        Column("perplexity", "× baseline", _perplexity_ratio, min, "{:.3f}".format, quality=True),
        Column(
            "plays alike",
            "frames",
            frames_until_divergence,
            max,
            "{:.0f}".format,
            quality=True,
            bound=_never_diverged,
        ),
    ]
    return [c for c in every if any(c.value(row) is not None for row in rows)]


def _byte_unit(rows: Sequence[Any]) -> tuple[str, float]:
    counts = [count(row) or 0 for row in rows for count in (weight_bytes, process_peak_bytes)]
    return ("GB", 1e9) if max(counts, default=0) >= 10e9 else ("MB", 1e6)


def _percent_agreeing(row: Any) -> float | None:
    share = number(row, "quality", "top1_agreement", "overall", "mean")
    return None if share is None else 100 * share


def _perplexity_ratio(row: Any) -> float | None:
    return number(row, "quality", "perplexity", "overall", "ratio")


def significant(value: float) -> str:
    """Three significant digits; below a thousandth as a power of ten: 1234, 0.0123, 4.5·10⁻⁶."""
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


def moment(written: Any) -> str | None:
    """A time in ISO 8601 as people write it."""
    try:
        return f"{datetime.fromisoformat(str(written)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return None if written is None else str(written)


def name_of(row: Any, index: int) -> str:
    """What a row is called."""
    return str(row.get("name") or f"row {index + 1}")


def how(row: Any) -> str:
    """A row's variant in words: what is cast and quantized."""
    parts = []
    cast = dig(row, "variant", "cast_dtype")
    recipe = dig(row, "variant", "recipe")
    if cast:
        parts.append(f"cast to {cast}")
    if isinstance(recipe, Mapping):
        mode = recipe.get("mode")
        parts.append(
            f"{recipe.get('bits')} bits, groups of {recipe.get('group_size')}, "
            f"{recipe.get('scope')}" + (f", {mode}" if mode not in (None, "affine") else "")
        )
    return "; ".join(parts) or "as stored"


def trouble(row: Any) -> str | None:
    """Why a row has no figures, or None if all is well."""
    if row.get("status") == "ok":
        return None
    if row.get("status") == "missing":
        return "not run yet"
    return f"failed: {row.get('error') or 'no reason was given'}"


def notes(rows: Sequence[Any]) -> list[str]:
    """What the measurements want known, each thing once."""
    found = [str(note) for row in rows for note in dig(row, "bench", "notes") or []]
    engines = sorted({str(engine) for row in rows if (engine := dig(row, "bench", "engine"))})
    if len(engines) > 1:
        found.append(f"The rows ran on {' and '.join(engines)}: their times do not compare")
    for n, row in enumerate(rows):
        if trouble(row) is None and row.get("error"):
            found.append(f"{name_of(row, n)}: {row['error']}")
    return list(dict.fromkeys(note.rstrip(".") for note in found))


def no_pick(matrix: dict[str, Any]) -> str:
    """Why there is none."""
    if all(kl(row) is None for row in matrix["rows"]):
        return "No variant was picked: quality was not measured."
    budget = number(matrix, "max_kl")
    within = "" if budget is None else f": none stays within {budget:g} nats a token"
    return f"No variant was picked{within}."


def facts(matrix: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the figures come from: what ran, on what, with what."""
    pairs: list[tuple[str, Any]] = [
        ("model", matrix.get("model")),
        ("base model", matrix.get("base_model")),
        ("prompt", matrix.get("prompt")),
        ("seed", matrix.get("seed")),
    ]
    request = dig(matrix, "request")
    if isinstance(request, Mapping):
        pairs += _flat({name: request[name] for name in request if name != "engine"}, "request")
    pairs += [("ran on", _ran_on(matrix)), ("quality measured on", _measured_on(matrix))]
    pairs += [("created", moment(matrix.get("created")))]
    pairs += _flat(matrix.get("machine"), "machine")
    pairs += _flat(matrix.get("versions"), "versions")
    pairs += [("KL budget, nats", matrix.get("max_kl"))]
    return [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]


def _ran_on(matrix: dict[str, Any]) -> str:
    """The engines of the rows, and in what they computed."""
    benches = [bench for row in matrix["rows"] if (bench := dig(row, "bench"))]
    names = {
        f"{engine} ({bench.get('device')}), in {bench.get('dtype')}"
        for bench in benches
        if isinstance(bench, Mapping) and (engine := bench.get("engine"))
    }
    return "; ".join(sorted(names))


def _measured_on(matrix: dict[str, Any]) -> str:
    """The music that KL and its like come from, as the first measured row has it."""
    quality = next((found for row in matrix["rows"] if (found := dig(row, "quality"))), None)
    prompts, counted = dig(quality, "prompts"), number(quality, "tokens", "counted")
    if not isinstance(prompts, list) or not prompts or counted is None:
        return ""
    seconds = sum(number(prompt, "seconds") or 0.0 for prompt in prompts)
    own = "segue's own prompts" if dig(prompts[0], "built_in") else "prompts"
    return f"{len(prompts)} of {own}, {seconds:.0f} s of music, {counted:.0f} tokens"


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
