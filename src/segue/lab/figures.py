"""What is compared of a bench report and of a quality report, read from their JSON into types.

Whoever wrote a file, a report of it must be readable: what is missing, or is no finite number, is
None, and nothing here raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def dig(found: Any, *names: str) -> Any:
    """Return what lies at the end of `names` in nested mappings, or None."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def number(found: Any, *names: str) -> float | None:
    """Return the finite number at the end of `names`, or None."""
    value = dig(found, *names)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(found: Any, *names: str) -> tuple[float, float] | None:
    """Return the pair of finite numbers at the end of `names`, in order, or None."""
    numbers = _numbers(dig(found, *names))
    return (min(numbers), max(numbers)) if len(numbers) == 2 else None


def _numbers(values: Any) -> list[float]:
    """The values of a list if all of them are finite numbers, else nothing."""
    if not isinstance(values, list | tuple):
        return []
    found = [number({"value": value}, "value") for value in values]
    finite = [value for value in found if value is not None]
    return finite if len(finite) == len(found) else []


def text(found: Any, *names: str) -> str | None:
    """Return what lies at the end of `names` as text; None if it is missing or empty."""
    value = dig(found, *names)
    return None if value in (None, "") else str(value)


@dataclass(frozen=True)
class BenchFigures:
    """How fast a row ran, and what it held in memory: the part of a bench report that is compared.

    Attributes:
        engine, device, dtype: what ran the language model, and in what it computed.
        codes_sha256: of the codes; equal where all tokens are.
        quantized_modules: how many.
        timings: seconds, by the names of `segue.lab.bench.Report.timings_s`.
        run_seconds: from a prompt to its continuation, by a model that is loaded.
        generate_seconds: of the decode steps, in each run after the first; in the first if there
            are no others.
        ms_per_step: milliseconds of a decode step.
        real_time_factor: seconds of music that are generated in a second.
        speed_range: the slowest and the fastest run's `real_time_factor`.
        music_seconds: of new music in a run, that is what follows the join.
        weights_bytes: of the language model.
        bits_per_weight: of the layers' and heads' weights, scales and biases included.
        engine_peak_bytes: the most memory that the engine's library had allocated.
        process_peak_bytes: the most memory that the process had resident.
        notes: for the reader, one line each.
    """

    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    codes_sha256: str | None = None
    quantized_modules: int | None = None
    timings: Mapping[str, float] | None = None
    run_seconds: float | None = None
    generate_seconds: tuple[float, ...] = ()
    ms_per_step: float | None = None
    real_time_factor: float | None = None
    speed_range: tuple[float, float] | None = None
    music_seconds: float | None = None
    weights_bytes: float | None = None
    bits_per_weight: float | None = None
    engine_peak_bytes: float | None = None
    process_peak_bytes: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def load_seconds(self) -> float | None:
        """Seconds until the model could run: loaded, cast and quantized."""
        timings = self.timings or {}
        if "model_load_s" not in timings:
            return None
        return sum(
            timings.get(part, 0.0) for part in ("model_load_s", "cast_dtype_s", "quantize_s")
        )

    @classmethod
    def from_json(cls, found: Any) -> BenchFigures:
        """Read what `segue.lab.bench.Report.to_json` gave."""
        timings, steady = dig(found, "timings_s"), dig(found, "steady")
        if isinstance(timings, Mapping):
            known = {str(name): number(timings, name) for name in timings}
            timings = {name: seconds for name, seconds in known.items() if seconds is not None}
        else:
            timings = None
        run = number(steady, "median", "timings_s", "total_s")
        first = number(found, "first_run", "timings_s", "total_s")
        ends = [dig(steady, end, "speed", "real_time_factor") for end in ("min", "max")]
        quantized, notes = dig(found, "modules", "quantized"), dig(found, "notes")
        return cls(
            engine=text(found, "engine"),
            device=text(found, "device"),
            dtype=text(found, "dtype"),
            codes_sha256=text(found, "codes_sha256"),
            quantized_modules=len(quantized) if isinstance(quantized, list) else None,
            timings=timings,
            run_seconds=first if run is None else run,
            generate_seconds=_generate_seconds(found),
            ms_per_step=number(found, "speed", "ms_per_step"),
            real_time_factor=number(found, "speed", "real_time_factor"),
            speed_range=interval({"ends": ends}, "ends"),
            music_seconds=_music_seconds(dig(found, "shapes")),
            weights_bytes=number(found, "memory", "weights_bytes"),
            bits_per_weight=number(found, "bits_per_weight"),
            engine_peak_bytes=number(found, "memory", "engine_peak_bytes"),
            process_peak_bytes=number(found, "memory", "process_peak_bytes"),
            notes=tuple(map(str, notes)) if isinstance(notes, list) else (),
        )


def _generate_seconds(bench: Any) -> tuple[float, ...]:
    """See `BenchFigures.generate_seconds`; none is 0, as with a clock that is too coarse."""
    return tuple(max(seconds, 1e-9) for seconds in _of_each_run(bench, "token_generate_s"))


def _of_each_run(bench: Any, part: str) -> list[float]:
    """The seconds of a part in each steady run, or in the first.

    Older reports have the least, the median and the most alone: of three runs that is all.
    """
    middle, steady = number(bench, "timings_s", part), dig(bench, "steady")
    if middle is None:
        return []
    if each := _numbers(dig(steady, "each", part)):
        return each
    low, high = (number(steady, end, "timings_s", part) for end in ("min", "max"))
    if low is None or high is None or number(steady, "runs") == 1:
        return [middle]
    return [low, high] if number(steady, "runs") == 2 else [low, middle, high]


def _music_seconds(shapes: Any) -> float | None:
    samples, join = dig(shapes, "samples"), number(shapes, "join_sample")
    rate = number(shapes, "sample_rate")
    if not isinstance(samples, list) or not samples or join is None or not rate:
        return None
    whole = number({"samples": samples[0]}, "samples")
    return None if whole is None else (whole - join) / rate


@dataclass(frozen=True)
class QualityFigures:
    """How far a row is from the baseline: the part of a quality report that is compared.

    Attributes:
        kl: mean KL divergence from the baseline, in nats per token.
        kl_ci95: its 95 % confidence interval.
        top1_agreement: share of tokens whose likeliest code is the same, 0 to 1.
        perplexity_ratio: the variant's perplexity by the baseline's.
        frames_until_divergence: frames for which a row generates exactly what the baseline does,
            given the same noise; the median over takes.
        limit_frames: length of the takes.
        prompts: of how many pieces of music.
        music_seconds: of all of them.
        built_in: whether they are segue's own.
        tokens: how many were counted.
        kl_text, kl_guided: `kl` with each piece's own words, and guided by them.
        report: all of it, for `paired.difference`.
    """

    kl: float | None = None
    kl_ci95: tuple[float, float] | None = None
    top1_agreement: float | None = None
    perplexity_ratio: float | None = None
    frames_until_divergence: float | None = None
    limit_frames: float | None = None
    prompts: int = 0
    music_seconds: float = 0.0
    built_in: bool = False
    tokens: float | None = None
    kl_text: float | None = None
    kl_guided: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def never_diverged(self) -> bool:
        """Whether at least half of the takes were the same to their end."""
        frames = self.frames_until_divergence or 0
        return self.limit_frames is not None and frames >= self.limit_frames

    @classmethod
    def from_json(cls, found: Any) -> QualityFigures:
        """Read what `segue.lab.quality.request.QualityReport.to_json` gave."""
        prompts = dig(found, "prompts")
        prompts = prompts if isinstance(prompts, list) else []
        return cls(
            kl=number(found, "kl", "overall", "mean"),
            kl_ci95=interval(found, "kl", "overall", "ci95"),
            top1_agreement=number(found, "top1_agreement", "overall", "mean"),
            perplexity_ratio=number(found, "perplexity", "overall", "ratio"),
            frames_until_divergence=number(found, "free_running", "median_frames"),
            limit_frames=number(found, "free_running", "limit_frames"),
            prompts=len(prompts),
            music_seconds=sum(number(prompt, "seconds") or 0.0 for prompt in prompts),
            built_in=bool(prompts and dig(prompts[0], "built_in")),
            tokens=number(found, "tokens", "counted"),
            kl_text=number(found, "conditions", "text", "kl", "overall", "mean"),
            kl_guided=number(found, "conditions", "guided", "kl", "overall", "mean"),
            report=found if isinstance(found, Mapping) else {},
        )
