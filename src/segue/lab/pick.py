"""Which variant to use: the fastest whose quality loss stays within a budget."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from ..checkpoints.recipe import METHODS, PRESETS_METHOD
from ..errors import RequestError
from .noise import TIE, Noise
from .results import Matrix, Pick, Row
from .variant import Variant

MAX_KL = 0.02
"""The budget, in nats a token, unless another is given.

By Pinsker's inequality, the chance that one and the same random choice falls differently is at most
√(KL / 2) on average: with 0.02, one token in ten.  That is a bound; what is audible lies far below,
for most such tokens are as good as those they stand for.
"""

SMALLER = 0.75
"""Rows with at most that share of the pick's weights are named: they fit where it does not."""

_ENVIRONMENT_BITS = (4, 8)  # what the service's environment can name, and the affine mode


def check_budget(max_kl: float) -> None:
    """Check a budget.

    Raises:
        RequestError: it is below 0 or no number.
    """
    if not max_kl >= 0:
        raise RequestError(f"max-kl must be 0 or more, not {max_kl:g}")


def pick(matrix: Matrix) -> Pick | None:
    """Return the row to use, or None where no row has both speed and quality within reach.

    Of rows that are as fast as the fastest, within the noise of the runs (`Noise`), the one that
    loses least is taken.  Rows with much smaller weights are named beside it.  The budget is the
    matrix's `max_kl`, or `MAX_KL` where it has none.

    Raises:
        RequestError: the row's variant is none that this version knows.
    """
    max_kl = MAX_KL if matrix.max_kl is None else matrix.max_kl
    measured = [
        row
        for row in matrix.rows
        if row.generate_seconds is not None and row.quality.kl is not None
    ]
    plain = [row for row in measured if row.plain]
    good = [
        row
        for row in measured
        if _kl(row) <= max_kl and not (plain and _is_plain_by_another_name(row, plain))
    ]
    if not good:
        return None
    fastest = min(good, key=_seconds)
    noise = Noise(measured, _equal_rows(measured))
    tied = [row for row in good if not noise.tells_apart(row, fastest)]
    best = min(tied, key=lambda row: (_kl(row), _seconds(row)))
    saving = smaller(best, good, max_kl)
    variant = best.variant()
    why = _why(best, measured, tied, max_kl, variant)
    if saving:
        why.append(f"With less memory: {', '.join(_share(row, best) for row in saving)}.")
    return Pick(
        name=variant.name,
        why=" ".join([*why, *_doubts(best, noise, measured)]),
        environment=_environment(variant),
        command=_command(variant, matrix),
    )


def smaller(best: Row, rows: Sequence[Row], max_kl: float) -> list[Row]:
    """Return rows within the budget with much smaller weights than `best`, least loss first.

    What loses more than another without being much smaller than that is left out.

    Args:
        best: the row to compare with.
        rows: to choose from.
        max_kl: mean KL divergence from the baseline that is acceptable, in nats per token.
    """
    limit, found = best.bench.weights_bytes, list[Row]()
    good = [row for row in rows if _kl(row) <= max_kl]
    for row in sorted(good, key=lambda row: (_kl(row), _bytes(row))):
        if limit is not None and _bytes(row) <= SMALLER * limit:
            found.append(row)
            limit = _bytes(row)
    return found


def _seconds(row: Row) -> float:
    return math.inf if row.generate_seconds is None else row.generate_seconds


def _kl(row: Row) -> float:
    return math.inf if row.quality.kl is None else row.quality.kl


def _bytes(row: Row) -> float:
    return math.inf if row.bench.weights_bytes is None else row.bench.weights_bytes


def _equal_rows(rows: Sequence[Row]) -> list[Row]:
    """The checkpoint as it is, and rows that are it by another name: as fast, but for noise."""
    plain = [row for row in rows if row.plain]
    others = [row for row in rows if _is_plain_by_another_name(row, plain)]
    return [*plain, *others] if plain else []


def _is_plain_by_another_name(row: Row, plain: Sequence[Row]) -> bool:
    """Whether a row changes nothing at all: any difference in time is then the clock's.

    It is a cast to what the weights are, or quantizes nothing.
    """
    if row.plain or row.quality.kl != 0:
        return False
    if row.recipe is not None and row.bench.quantized_modules != 0:
        return False
    hashes = {other.bench.codes_sha256 for other in [row, *plain]}
    return len(hashes - {None}) <= 1


# --- In words -------------------------------------------------------------------------------------


def _why(
    best: Row, measured: Sequence[Row], tied: Sequence[Row], max_kl: float, variant: Variant
) -> list[str]:
    if best.plain:
        why = [
            f"Nothing that stays within {max_kl:g} nats a token is faster than the checkpoint as "
            f"it is, which {_generates(best)}."
        ]
    else:
        why = [_gain(best, measured, max_kl)]
    if others := [row.name for row in tied if row is not best]:
        why.append(f"As fast, as far as the runs tell, but not as good: {', '.join(others)}.")
    lossy = [
        f"{row.name} ({_seconds(row):.2f} s, {_kl(row):.2g} nats)"
        for row in measured
        if _seconds(row) < _seconds(best) and _kl(row) > max_kl
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
    plain = next((row for row in measured if row.plain), None)
    beside = ""
    if plain is not None:
        beside = f", {_seconds(plain) / _seconds(best):.2f} × as fast as {plain.name},"
    return (
        f"{best.name} {_generates(best)}{beside} and costs {_kl(best):.2g} nats a token of "
        f"the {max_kl:g} allowed."
    )


def _generates(row: Row) -> str:
    """How fast it is: so much music in so many seconds."""
    music = row.bench.music_seconds
    what = "" if music is None else f" {music:.3g} s of music"
    return f"generates{what} in {_seconds(row):.2f} s"


def _share(row: Row, best: Row) -> str:
    """A smaller row, what it costs and what it saves."""
    times = _seconds(row) / _seconds(best)
    return (
        f"{row.name} ({_bytes(row) / _bytes(best):.0%} of the weights, {_kl(row):.2g} "
        f"nats, {times:.2f} × the time)"
    )


def _doubts(best: Row, noise: Noise, measured: Sequence[Row]) -> list[str]:
    """What the times do not show."""
    doubts = []
    if not noise.known:
        doubts.append(
            "With one run of each row it cannot be told what is speed and what is noise: measure "
            "with --runs 3 or more."
        )
    if noise.between is not None and noise.between > 1 + TIE:
        names = " and ".join(row.name for row in _equal_rows(measured))
        doubts.append(
            f"{names} do the same, and took times apart by {noise.between - 1:.0%}: so much is "
            "noise."
        )
    if best.bench.engine == "mlx" and best.bench.device == "CPU":
        doubts.append("This was MLX on a CPU; on a GPU measure again.")
    return doubts


def _environment(variant: Variant) -> tuple[str, ...]:
    recipe = variant.recipe
    unset = (variant.checkpoint, variant.kv_bits, variant.activations)
    if any(part is not None for part in unset):
        return ()
    if recipe is None:
        return ("G4L_MLX_QUANTIZE=0",)
    if recipe.mode != "affine" or recipe.bits not in _ENVIRONMENT_BITS or METHODS[recipe.method]:
        return ()
    method = [] if recipe.method == PRESETS_METHOD else [f"G4L_MLX_Q_METHOD={recipe.method}"]
    return (
        "G4L_MLX_QUANTIZE=1",
        f"G4L_MLX_Q_BITS={recipe.bits}",
        f"G4L_MLX_Q_GROUP_SIZE={recipe.group_size}",
        f"G4L_MLX_Q_SCOPE={recipe.scope}",
        *method,
    )


def _command(variant: Variant, matrix: Matrix) -> str:
    base = [] if matrix.base_model is None else ["--base-model", matrix.base_model]
    name = variant.checkpoint or matrix.model
    model = [] if name is None else ["--model", name]
    return shlex.join(["segue", "continue", "PROMPT", *model, *base, *variant.options()])
