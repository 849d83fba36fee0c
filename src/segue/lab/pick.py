"""Which variant to use: the fastest whose quality loss stays within a budget."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .noise import TIE, Noise
from .report import findings
from .variant import Variant

__all__ = ["MAX_KL", "TIE", "pick"]

MAX_KL = 0.02
"""The budget, in nats a token, unless somebody states another.

By Pinsker's inequality, the chance that one and the same random choice falls differently is at most
√(KL / 2) on average: with 0.02, one token in ten.  That is a bound; what is heard of it lies far
below, for most such tokens are as good as those they stand for.
"""

SMALLER = 0.75
"""Rows with at most that share of the pick's weights are named: they fit where it does not."""

_ENVIRONMENT_BITS = (4, 8)  # the service knows these from its environment, and the affine mode

Row = Mapping[str, Any]


def pick(
    rows: Sequence[Row], max_kl: float, model: str, base_model: str | None
) -> dict[str, Any] | None:
    """The row of a `matrix.json` to use; None where none has both speed and quality within reach.

    Of rows that are as fast as the fastest, as far as the runs tell (`Noise`), the one that loses
    least is taken.  Rows with much smaller weights are named beside it.

    Args:
        rows: as `matrix.json` has them.
        max_kl: mean KL divergence from the baseline that is acceptable, in nats a token.
        model: for the command.
        base_model: for the command.

    Returns:
        `name`; `why`, a few sentences; `environment`, lines for the service, none where they have
        no words for it; `command`.
    """
    measured = [row for row in rows if _speed(row) is not None and _kl(row) is not None]
    plain = [row for row in measured if _is_plain(row)]
    good = [
        row
        for row in measured
        if _number(_kl(row)) <= max_kl and not (plain and _is_plain_by_another_name(row, plain))
    ]
    if not good:
        return None
    fastest = min(good, key=lambda row: _number(_speed(row)))
    noise = Noise(measured, _alike(measured))
    tied = [row for row in good if not noise.tells_apart(row, fastest)]
    best = min(tied, key=lambda row: (_number(_kl(row)), _number(_speed(row))))
    saving = smaller(best, good, max_kl)
    variant = Variant.from_json(best["name"], best["variant"])
    why = _why(best, measured, tied, max_kl, variant)
    if saving:
        why.append(f"With less memory: {', '.join(_share(row, best) for row in saving)}.")
    return {
        "name": variant.name,
        "why": " ".join([*why, *_doubts(best, noise, measured)]),
        "environment": _environment(variant),
        "command": _command(variant, model, base_model),
    }


def _alike(rows: Sequence[Row]) -> list[Row]:
    """The checkpoint as it is, and rows that are it by another name: as fast, but for noise."""
    plain = [row for row in rows if _is_plain(row)]
    others = [row for row in rows if _is_plain_by_another_name(row, plain)]
    return [*plain, *others] if plain else []


def smaller(best: Row, rows: Sequence[Row], max_kl: float) -> list[Row]:
    """Rows within the budget that need much less memory than `best`, those that lose least first.

    What loses more than another without being much smaller than that is left out.
    """
    limit, found = findings.weight_bytes(best), list[Row]()
    good = [row for row in rows if _number(findings.kl(row)) <= max_kl]
    for row in sorted(good, key=lambda row: (_number(findings.kl(row)), _bytes(row))):
        if limit is not None and _bytes(row) <= SMALLER * limit:
            found.append(row)
            limit = _bytes(row)
    return found


def _bytes(row: Row) -> float:
    return _number(findings.weight_bytes(row))


def _share(row: Row, best: Row) -> str:
    """A smaller row, what it costs and what it saves."""
    times = _number(_speed(row)) / _number(_speed(best))
    return (
        f"{row['name']} ({_bytes(row) / _bytes(best):.0%} of the weights, {_number(_kl(row)):.2g} "
        f"nats, {times:.2f} × the time)"
    )


def _doubts(best: Row, noise: Noise, measured: Sequence[Row]) -> list[str]:
    """What the times do not tell."""
    doubts = []
    if not noise.known:
        doubts.append(
            "With one run of each row it cannot be told what is speed and what is noise: measure "
            "with --runs 3 or more."
        )
    if noise.between is not None and noise.between > 1 + TIE:
        names = " and ".join(row["name"] for row in _alike(measured))
        doubts.append(
            f"{names} do the same, and took times apart by {noise.between - 1:.0%}: so much is "
            "noise."
        )
    if best["bench"]["engine"] == "mlx" and best["bench"]["device"] == "CPU":
        doubts.append("This was MLX on a CPU; on a GPU measure again.")
    return doubts


def _speed(row: Row) -> float | None:
    """Seconds of generating; all rows of a matrix generate the same number of frames."""
    if row["status"] != "ok" or row["bench"] is None:
        return None
    return float(row["bench"]["timings_s"]["token_generate_s"])


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
            f"it is, which {_generates(best)}."
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
        f"{best['name']} {_generates(best)}{beside} and costs {kl:.2g} nats a token of "
        f"the {max_kl:g} allowed."
    )


def _generates(row: Row) -> str:
    """How fast it is: so much music in so many seconds."""
    music = findings.music_seconds(row["bench"])
    what = "" if music is None else f" {music:.3g} s of music"
    return f"generates{what} in {_number(_speed(row)):.2f} s"


def _is_plain(row: Row) -> bool:
    return row["variant"]["recipe"] is None and row["variant"]["cast_dtype"] is None


def _is_plain_by_another_name(row: Row, plain: Sequence[Row]) -> bool:
    """Whether a row changes nothing at all: any difference in time is then the clock's.

    It is a cast to what the weights are, or quantizes nothing.
    """
    if _is_plain(row) or _kl(row) != 0:
        return False
    if (
        row["variant"]["recipe"] is not None
        and findings.dig(row, "bench", "modules", "quantized") != []
    ):
        return False
    hashes = {findings.dig(other, "bench", "codes_sha256") for other in [row, *plain]}
    return len(hashes - {None}) <= 1


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
