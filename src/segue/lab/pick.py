"""Which variant to use: the fastest whose quality loss stays within a budget."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .variant import Variant

MAX_KL = 0.02
"""The budget, in nats a token, unless somebody states another.

By Pinsker's inequality, the chance that one and the same random choice falls differently is at most
√(KL / 2) on average: with 0.02, one token in ten.  That is a bound; what is heard of it lies far
below, for most such tokens are as good as those they stand for.
"""

TIE = 0.02
"""Rows within two hundredths of the fastest are as fast: medians of a few runs tell no finer."""

_ENVIRONMENT_BITS = (4, 8)  # the service knows these from its environment, and the affine mode

Row = Mapping[str, Any]


def pick(
    rows: Sequence[Row], max_kl: float, model: str, base_model: str | None
) -> dict[str, Any] | None:
    """The row of a `matrix.json` to use; None where none has both speed and quality within reach.

    Of rows that are as fast as the fastest (within `TIE`, or with a run as quick as its slowest),
    the one that loses least is taken.

    Args:
        rows: as `matrix.json` has them.
        max_kl: mean KL divergence from the baseline that is acceptable, in nats a token.
        model: for the command.
        base_model: for the command.

    Returns:
        `name`; `why`, a sentence or two; `environment`, lines for the service, none where they have
        no words for it; `command`.
    """
    measured = [row for row in rows if _speed(row) is not None and _kl(row) is not None]
    plain = any(_is_plain(row) for row in measured)
    good = [
        row
        for row in measured
        if _number(_kl(row)) <= max_kl and not (plain and _is_plain_by_another_name(row))
    ]
    if not good:
        return None
    fastest = min(good, key=lambda row: _number(_speed(row)))
    limit = max(_number(_speed(fastest)) * (1 + TIE), _run(fastest, "max"))
    tied = [row for row in good if min(_number(_speed(row)), _run(row, "min")) <= limit]
    best = min(tied, key=lambda row: (_number(_kl(row)), _number(_speed(row))))
    variant = Variant.from_json(best["name"], best["variant"])
    return {
        "name": variant.name,
        "why": " ".join(_why(best, measured, tied, max_kl, variant)),
        "environment": _environment(variant),
        "command": _command(variant, model, base_model),
    }


def _speed(row: Row) -> float | None:
    """Seconds of generating; all rows of a matrix generate the same number of frames."""
    if row["status"] != "ok" or row["bench"] is None:
        return None
    return float(row["bench"]["timings_s"]["token_generate_s"])


def _run(row: Row, end: str) -> float:
    """The same of the quickest run, `min`, or the slowest, `max`; of the median, if one ran."""
    steady = row["bench"].get("steady")
    found = _speed(row) if steady is None else steady[end]["timings_s"]["token_generate_s"]
    return _number(found)


def _kl(row: Row) -> float | None:
    if row["quality"] is None:
        return None
    kl = float(row["quality"]["kl"]["overall"]["mean"])
    return kl if math.isfinite(kl) else None


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _why(
    best: Row, measured: Sequence[Row], tied: Sequence[Row], max_kl: float, variant: Variant
) -> list[str]:
    seconds = _number(_speed(best))
    if _is_plain(best):
        why = [
            f"Nothing that stays within {max_kl:g} nats a token is faster than the checkpoint as "
            f"it is, which generates in {seconds:.2f} s."
        ]
    else:
        why = [_gain(best, measured, max_kl)]
    if others := [row["name"] for row in tied if row is not best]:
        why.append(f"As fast, as far as the runs tell, but not as good: {', '.join(others)}.")
    lossy = [
        f"{row['name']} ({_number(_speed(row)):.2f} s, {_number(_kl(row)):.2g} nats)"
        for row in measured
        if _number(_speed(row)) < seconds and _number(_kl(row)) > max_kl
    ]
    if lossy:
        why.append(f"Faster, but beyond the budget: {', '.join(lossy)}.")
    if best["bench"]["engine"] == "mlx" and best["bench"]["device"] == "CPU":
        why.append("This was MLX on a CPU; on a GPU measure again.")
    if variant.recipe is not None and not _environment(variant):
        why.append(
            f"The service's environment has no words for {variant.recipe.name}: run segue quantize "
            "and give it the folder as a model."
        )
    elif variant.cast_dtype is not None:
        why.append(f"The service's environment has no words for the cast to {variant.cast_dtype}.")
    return why


def _gain(best: Row, measured: Sequence[Row], max_kl: float) -> str:
    """What a variant brings, and what it costs."""
    seconds, kl = _number(_speed(best)), _number(_kl(best))
    plain = next((row for row in measured if _is_plain(row)), None)
    beside = ""
    if plain is not None:
        beside = f", {_number(_speed(plain)) / seconds:.2f} × as fast as {plain['name']},"
    return (
        f"{best['name']} generates in {seconds:.2f} s{beside} and costs {kl:.2g} nats a token of "
        f"the {max_kl:g} allowed."
    )


def _is_plain(row: Row) -> bool:
    return row["variant"]["recipe"] is None and row["variant"]["cast_dtype"] is None


def _is_plain_by_another_name(row: Row) -> bool:
    """Whether a cast changed nothing at all: any difference in time is then the clock's."""
    return row["variant"]["recipe"] is None and not _is_plain(row) and _kl(row) == 0


def _environment(variant: Variant) -> list[str]:
    recipe = variant.recipe
    if recipe is None:
        return ["G4L_MLX_QUANTIZE=0"]
    if recipe.mode != "affine" or recipe.bits not in _ENVIRONMENT_BITS:
        return []
    return [
        "G4L_MLX_QUANTIZE=1",
        f"G4L_MLX_Q_BITS={recipe.bits}",
        f"G4L_MLX_Q_GROUP_SIZE={recipe.group_size}",
        f"G4L_MLX_Q_SCOPE={recipe.scope}",
    ]


def _command(variant: Variant, model: str, base_model: str | None) -> str:
    base = [] if base_model is None else ["--base-model", base_model]
    words = ["segue", "continue", "PROMPT", "--model", model, *base, *variant.options()]
    return shlex.join(words)
