"""What a bench and a matrix are to measure, checked before anything long begins."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..checkpoints.hub import BUILT_IN
from ..errors import RequestError
from ..request import Request
from .machine import machine, versions
from .pick import MAX_KL, check_budget
from .results import SCHEMA
from .variant import Variant

RUNS = 3
"""Runs after the first.  Three show a median and how far it can be trusted."""

MAX_RUNS = 1000


@dataclass(frozen=True, eq=False)
class BenchRequest:
    """What to measure.

    Attributes:
        variant: how the checkpoint runs.
        request: what is generated; it has a seed (`seeded` gives it one), and one variation.
        prompt: where its audio came from, for the report.
        model: the checkpoint; see `segue.load`.
        base_model: see `segue.load`.
        engine: see `segue.load`.
        runs: how often after the first time, 0 to `MAX_RUNS`.
        decode_continuation: decode the continuation's codes a second time, by themselves, rather
            than cut it out of the whole.

    Raises:
        RequestError: an option is out of range.
    """

    variant: Variant
    request: Request
    prompt: str
    model: str = BUILT_IN
    base_model: str | None = None
    engine: str = "auto"
    runs: int = RUNS
    decode_continuation: bool = False

    def __post_init__(self) -> None:
        check_runs(self.runs)
        if self.request.seed is None or self.request.variations != 1:
            raise RequestError("a bench repeats one variation with one seed")


def check_runs(runs: int) -> None:
    """Check how often a bench is repeated.

    Raises:
        RequestError: it is out of range.
    """
    if not 0 <= runs <= MAX_RUNS:
        raise RequestError(f"runs must lie between 0 and {MAX_RUNS}, not {runs}")


def seeded(request: Request) -> Request:
    """Return a request with a seed, a random one if it had none, so that all runs are the same."""
    return replace(request, seed=secrets.randbelow(2**31)) if request.seed is None else request


def sampling(request: Request) -> dict[str, Any]:
    """Return what is continued, and how tokens are sampled, as reports have it."""
    return {
        "prompt_seconds": request.prompt_seconds,
        "output_seconds": request.output_seconds,
        "prompt_from": request.prompt_from,
        "text": request.text,
        "top_k": request.top_k,
        "temperature": request.temperature,
        "guidance_coef": request.guidance_coef,
        "allow_empty_text_cfg": request.allow_empty_text_cfg,
        "extend_stride": request.extend_stride,
        "top_p": request.top_p,
    }


@dataclass(frozen=True, eq=False)
class MatrixRequest:
    """What to compare.

    Attributes:
        variants: the rows.
        request: what each of them continues; it has a seed.
        prompt: the file that its audio came from.
        model: the checkpoint; see `segue.load`.
        base_model: see `segue.load`.
        engine: what runs all rows; see `segue.load`.
        runs: see `BenchRequest`.
        quality: whether quality is measured, without which there is no pick.
        quality_prompts: see `segue.lab.quality.request.QualityRequest.prompts`.
        judge: see there.
        max_kl: the budget; see `segue.lab.pick.MAX_KL`.

    Raises:
        RequestError: an option is out of range.
    """

    variants: Sequence[Variant]
    request: Request
    prompt: str
    model: str = BUILT_IN
    base_model: str | None = None
    engine: str = "auto"
    runs: int = RUNS
    quality: bool = True
    quality_prompts: Sequence[Path] = ()
    judge: str | None = None
    max_kl: float = MAX_KL

    def __post_init__(self) -> None:
        check_runs(self.runs)
        check_budget(self.max_kl)
        if self.request.seed is None:
            raise RequestError("all rows have one seed")

    def to_json(self) -> dict[str, Any]:
        """Return a `matrix.json` of which nothing is done; see docs/quantization.md."""
        return {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "model": self.model,
            "base_model": self.base_model,
            "prompt": self.prompt,
            "seed": self.request.seed,
            "request": sampling(self.request)
            | {
                "engine": self.engine,
                "runs": self.runs,
                "quality": self.quality,
                "quality_prompts": [str(path) for path in self.quality_prompts],
                "judge": self.judge,
            },
            "max_kl": self.max_kl,
            "rows": [
                {
                    "name": variant.name,
                    "variant": variant.to_json(),
                    "status": "missing",
                    "error": None,
                    "bench": None,
                    "quality": None,
                    "audio": None,
                }
                for variant in self.variants
            ],
            "pick": None,
        }
