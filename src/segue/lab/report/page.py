"""A matrix as one HTML file that needs nothing else: no server, no network, no fonts.

The template escapes every value that comes from the JSON; the script gets its data as JSON in an
element that is never run.  A content security policy allows the page's own script and style by
their hashes, and no requests.  Only the package's own files are put in unescaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ... import web
from ..results import Matrix, Row
from . import spectrogram
from .blind import opponents
from .findings import (
    COLUMNS_EXPLAINED,
    Column,
    columns,
    describe,
    facts,
    failure,
    moment,
    notes,
    why_no_pick,
)
from .fronts import pair_lines
from .listening import Listening, gather
from .plans import grid

_TIMINGS = (
    ("load", ("model_load_s",)),
    ("cast, quantize", ("cast_dtype_s", "quantize_s")),
    ("encode", ("prompt_encode_s", "text_encode_s")),
    ("prefill", ("prefill_s",)),
    ("generate", ("token_generate_s",)),
    ("decode", ("decode_full_s", "decode_cont_for_save_s")),
)
"""What is drawn as one part of a run."""


def page(matrix: Matrix, folder: Path) -> str:
    """Return the page for a matrix whose WAVs lie in `folder`."""
    groups, complaints = gather(folder, matrix.rows)
    # Ours, and free of what would end their elements: `bundle` checks it.
    script = Markup(web.bundle("report/report"))  # noqa: S704
    style = Markup(web.read("shared/style.css"))  # noqa: S704
    shown = columns(matrix.rows)
    origin = (
        ("seed", matrix.seed),
        ("prompt", matrix.prompt),
        ("made", moment(matrix.created)),
    )
    pick = matrix.pick
    return _template().render(
        policy=_policy(script, style),
        style=style,
        script=script,
        title=f"Quantization matrix of {matrix.model}",
        origin=[(name, value) for name, value in origin if value is not None],
        pick=pick,
        copyable=()
        if pick is None
        else (
            ("Play with it", pick.command),
            ("Make it the service's default", "\n".join(pick.environment)),
        ),
        why_no_pick=why_no_pick(matrix),
        columns=shown,
        columns_explained=COLUMNS_EXPLAINED,
        rows=_table(matrix, shown),
        notes=notes(matrix.rows),
        pairs=pair_lines(matrix.rows),
        plans=[(row.name, found) for row in matrix.rows if (found := grid(row.recipe)) is not None],
        listening=groups,
        complaints=complaints,
        spectrograms=_spectrograms(groups[0]) if groups else None,
        facts=facts(matrix),
        findings=_findings(matrix, groups),
        recordings=[
            (f"take-{n}-{m}", _base64(take.flac()))
            for n, group in enumerate(groups)
            for m, take in enumerate(group.takes)
        ],
    )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template("report.html")


def _policy(script: str, style: str) -> Markup:
    return Markup(
        "default-src 'none'; script-src {}; style-src {}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    ).format(_hash(script), _hash(style))


def _hash(text: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup("'sha256-{}'").format(digest)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- What stands in the page itself ---------------------------------------------------------------


def _table(matrix: Matrix, shown: Sequence[Column]) -> list[dict[str, Any]]:
    rows = matrix.rows
    best = {(n, column.title) for column in shown for n in column.best(rows)}
    return [
        {
            "name": row.name,
            "variant": describe(row),
            "picked": matrix.is_picked(row),
            "failure": failure(row),
            "cells": [
                {
                    "title": f"{column.title}, {column.unit}",
                    "text": column.text(row),
                    "best": (n, column.title) in best,
                }
                for column in shown
            ],
        }
        for n, row in enumerate(rows)
    ]


def _spectrograms(group: Listening) -> dict[str, Any]:
    """The pictures of a group's takes, all on one scale; `join` in seconds, `join_x` in pixels."""
    levels = [
        spectrogram.decibels(take.audio.samples, take.audio.sample_rate) for take in group.takes
    ]
    loudest = max(float(level.max()) for level in levels)
    pictures = [
        {
            "number": take.index + 1,
            "name": take.name,
            "png": _base64(spectrogram.png(level, loudest)),
            "seconds": take.audio.seconds,
            "join_x": None
            if group.join is None
            else spectrogram.WIDTH * group.join / max(1e-9, take.audio.seconds),
        }
        for take, level in zip(group.takes, levels, strict=True)
    ]
    return {
        "pictures": pictures,
        "join": group.join,
        "width": spectrogram.WIDTH,
        "height": spectrogram.HEIGHT,
        "floor_db": -spectrogram.FLOOR_DB,
        "top_khz": min(take.audio.sample_rate for take in group.takes) / 2000,
    }


# --- What the script gets -------------------------------------------------------------------------


def _findings(matrix: Matrix, groups: Sequence[Listening]) -> dict[str, Any]:
    return {
        # What votes are for: this sound, not this file.
        "report": _report_id(groups),
        "max_kl": matrix.max_kl,
        "rows": [_figures(row, matrix.is_picked(row)) for row in matrix.rows],
        "parts": [name for name, _ in _TIMINGS] + ["rest"],
        "listening": [
            {
                "join": group.join,
                "blind": opponents(matrix, group.takes),
                "takes": [
                    {
                        "name": take.name,
                        "row": take.index,
                        "gain": take.gain,
                        "rate": take.audio.sample_rate,
                    }
                    for take in group.takes
                ],
            }
            for group in groups
        ],
    }


def _report_id(groups: Sequence[Listening]) -> str:
    digest = hashlib.sha256()
    for group in groups:
        for take in group.takes:
            digest.update(take.name.encode("utf-8", "replace"))
            digest.update(take.audio.samples.tobytes())
    return digest.hexdigest()[:16]


def _figures(row: Row, picked: bool) -> dict[str, Any]:
    return {
        "name": row.name,
        "ok": failure(row) is None,
        "picked": picked,
        "kl": row.quality.kl,
        "kl_ci95": row.quality.kl_ci95,
        "speed": row.bench.real_time_factor,
        "speed_range": row.bench.speed_range,
        "ms": row.bench.ms_per_step,
        "bits": row.bench.bits_per_weight,
        "weights": row.bench.weights_bytes,
        "engine": row.bench.engine_peak_bytes,
        "process": row.bench.process_peak_bytes,
        "seconds": _seconds(row),
    }


def _seconds(row: Row) -> list[float] | None:
    """Seconds of each part, and of what is in none of them; None where nothing was measured."""
    timings = row.bench.timings
    if timings is None:
        return None
    parts = [sum(timings.get(name, 0.0) for name in names) for _, names in _TIMINGS]
    total = timings.get("total_s")
    rest = 0.0 if total is None else max(0.0, total - sum(parts))
    return [*parts, rest]
