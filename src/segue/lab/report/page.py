"""A matrix as one HTML file that needs nothing else: no server, no network, no fonts.

What comes from the JSON reaches the page as escaped text or as JSON in a script element that is
never run; a content security policy allows the page's own script and style by their hashes, and no
requests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from ... import web
from . import findings, spectrogram
from .blind import opponents
from .findings import columns, dig, facts, how, name_of, number, trouble
from .listening import Listening, gather

_TIMINGS = (
    ("load", ("model_load_s",)),
    ("cast, quantize", ("cast_dtype_s", "quantize_s")),
    ("encode", ("prompt_encode_s", "text_encode_s")),
    ("prefill", ("prefill_s",)),
    ("generate", ("token_generate_s",)),
    ("decode", ("decode_full_s", "decode_cont_for_save_s")),
)
"""What is drawn as one part of a run."""


def page(matrix: dict[str, Any], folder: Path) -> str:
    """The page for a matrix whose WAVs lie in `folder`."""
    rows = matrix["rows"]
    heard, complaints = gather(folder, rows)
    script, style = web.bundle("report/report"), web.read("shared/style.css")
    title = f"Quantization matrix of {matrix.get('model')}"
    body = "\n".join(
        part
        for part in (
            _header(matrix, title),
            _pick(matrix),
            _table(rows, dig(matrix.get("pick"), "name")),
            _notes(rows),
            _chart("speed", "Speed against quality"),
            _listening(heard, complaints),
            _chart("memory", "Memory"),
            _chart("time", "Where the time went"),
            _facts(matrix),
        )
        if part
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(script, style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="findings">{_json(_findings(matrix, heard))}</script>
{_recordings(heard)}
<script type="module">{script}</script>
</body>
</html>
"""


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(found: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(found, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# --- What the script gets -------------------------------------------------------------------------


def _findings(matrix: dict[str, Any], heard: list[Listening]) -> dict[str, Any]:
    rows = matrix["rows"]
    picked = dig(matrix.get("pick"), "name")
    return {
        # What votes are for: this sound, not this file.
        "report": _report_id(heard),
        "max_kl": number(matrix, "max_kl"),
        "rows": [_row(row, n, picked) for n, row in enumerate(rows)],
        "parts": [name for name, _ in _TIMINGS] + ["rest"],
        "listening": [
            {
                "join": listening.join,
                "blind": opponents(matrix, listening.takes),
                "takes": [
                    {
                        "name": take.name,
                        "row": take.index,
                        "gain": take.gain,
                        "rate": take.audio.sample_rate,
                    }
                    for take in listening.takes
                ],
            }
            for listening in heard
        ],
    }


def _report_id(heard: list[Listening]) -> str:
    digest = hashlib.sha256()
    for listening in heard:
        for take in listening.takes:
            digest.update(take.name.encode("utf-8", "replace"))
            digest.update(take.audio.samples.tobytes())
    return digest.hexdigest()[:16]


def _row(row: Any, index: int, picked: Any) -> dict[str, Any]:
    return {
        "name": name_of(row, index),
        "ok": trouble(row) is None,
        "picked": picked is not None and row.get("name") == picked,
        "kl": findings.kl(row),
        "kl_ci95": findings.interval(row, "quality", "kl", "overall", "ci95"),
        "speed": findings.real_time_factor(row),
        "speed_range": findings.speed_range(row),
        "weights": findings.weight_bytes(row),
        "engine": findings.engine_peak_bytes(row),
        "process": findings.process_peak_bytes(row),
        "seconds": _seconds(row),
    }


def _seconds(row: Any) -> list[float] | None:
    """Seconds of each part, and of what is in none of them; None where nothing was measured."""
    timings = dig(row, "bench", "timings_s")
    if not isinstance(timings, Mapping):
        return None
    parts = [sum(number(timings, name) or 0.0 for name in names) for _, names in _TIMINGS]
    total = number(timings, "total_s")
    rest = 0.0 if total is None else max(0.0, total - sum(parts))
    return [*parts, rest]


def _recordings(heard: list[Listening]) -> str:
    return "\n".join(
        f'<script type="text/plain" id="take-{n}-{m}">{_base64(take.flac())}</script>'
        for n, listening in enumerate(heard)
        for m, take in enumerate(listening.takes)
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- What stands in the page itself ---------------------------------------------------------------


def _header(matrix: dict[str, Any], title: str) -> str:
    said = [
        ("seed", matrix.get("seed")),
        ("prompt", matrix.get("prompt")),
        ("made", findings.moment(matrix.get("created"))),
    ]
    line = " · ".join(f"{name} {escape(str(value))}" for name, value in said if value is not None)
    # The name may break anywhere: paths and repositories are long.
    return f"<header>\n<h1>{escape(title)}</h1>\n<p>{line}</p>\n</header>\n<main>"


def _pick(matrix: dict[str, Any]) -> str:
    pick = matrix.get("pick")
    if not isinstance(pick, Mapping):
        why = escape(findings.no_pick(matrix))
        return f'<section class="pick">\n<h2>No pick</h2>\n<p>{why}</p>\n</section>'
    environment = "\n".join(str(line) for line in pick.get("environment") or [])
    blocks = [
        _copyable(title, text)
        for title, text in (
            ("Play with it", str(pick.get("command") or "")),
            ("Make it the service's default", environment),
        )
        if text
    ]
    return (
        f'<section class="pick" aria-labelledby="pick">\n<p class="eyebrow">The pick</p>\n'
        f'<h2 id="pick">{escape(str(pick.get("name")))}</h2>\n'
        f"<p>{escape(str(pick.get('why') or ''))}</p>\n" + "\n".join(blocks) + "\n</section>"
    )


def _copyable(title: str, text: str) -> str:
    return (
        f'<div class="copyable">\n<h3>{title}</h3>\n<pre tabindex="0"><code>{escape(text)}</code>'
        f'</pre>\n<button type="button" class="copy">Copy</button>\n</div>'
    )


def _table(rows: list[Any], picked: Any) -> str:
    shown = columns(rows)
    best = {(n, column.title) for column in shown for n in column.best(rows)}
    heads = "".join(
        f'<th scope="col" class="figure">{column.title}<small>{column.unit}</small></th>'
        for column in shown
    )
    lines = []
    for n, row in enumerate(rows):
        why = trouble(row)
        chosen = picked is not None and row.get("name") == picked
        badge = f'<b class="number{" picked" if chosen else ""}">{n + 1}</b>'
        role = ("; the baseline" if n == 0 else "") + ("; the pick" if chosen else "")
        head = (
            f'<th scope="row"><div>{badge}<span>{escape(name_of(row, n))}'
            f"<small>{escape(how(row))}{role}</small></span></div></th>"
        )
        if why is not None:
            cells = f'<td class="trouble" colspan="{max(1, len(shown))}">{escape(why)}</td>'
        else:
            cells = "".join(
                f'<td class="figure" data-title="{column.title}, {column.unit}">'
                + (_best(column.text(row)) if (n, column.title) in best else column.text(row))
                + "</td>"
                for column in shown
            )
        lines.append(f"<tr>{head}{cells}</tr>")
    return (
        '<section aria-labelledby="table">\n<h2 id="table">All variants</h2>\n'
        f'<table class="matrix">\n<thead><tr><th scope="col">variant</th>{heads}</tr></thead>\n'
        "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>\n"
        f'<p class="note">{escape(findings.COLUMNS_EXPLAINED, quote=False)}</p>\n</section>'
    )


def _best(text: str) -> str:
    return f'<strong>{text}<span class="unseen"> (best)</span></strong>'


def _notes(rows: list[Any]) -> str:
    return "\n".join(f'<p class="warning">{escape(note)}.</p>' for note in findings.notes(rows))


def _chart(name: str, title: str) -> str:
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n'
        f'<div class="chart" data-chart="{name}"></div>\n</section>'
    )


def _listening(heard: list[Listening], complaints: list[str]) -> str:
    said = "".join(f'<p class="warning">{escape(line)}</p>' for line in complaints)
    if not heard:
        return (
            '<section aria-labelledby="listen">\n<h2 id="listen">Listen</h2>\n'
            f"<p>This matrix saved no audio.</p>\n{said}</section>"
        )
    players = "\n".join(
        f'<h3>{listening.title}</h3>\n<segue-player data-listening="{n}"></segue-player>\n'
        f'<p class="note">{" ".join(listening.notes)}</p>'
        for n, listening in enumerate(heard)
    )
    return (
        f'<section aria-labelledby="listen">\n<h2 id="listen">Listen</h2>\n{said}{players}\n'
        "<noscript><p>Listening, charts and the blind test need JavaScript.</p></noscript>\n"
        "</section>\n"
        '<section aria-labelledby="blind">\n<h2 id="blind">Blind test</h2>\n'
        '<p class="lead">Variants drift apart: once a single code differs, they play different '
        "music. ABX says whether two can be told apart, preference whether one is better. Both "
        "play at the same loudness, and scores stay hidden until a run is over.</p>\n"
        '<segue-blind data-listening="0"></segue-blind>\n</section>\n' + _spectrograms(heard[0])
    )


def _spectrograms(listening: Listening) -> str:
    levels = [
        spectrogram.decibels(take.audio.samples, take.audio.sample_rate) for take in listening.takes
    ]
    loudest = max(float(level.max()) for level in levels)
    figures = []
    for take, level in zip(listening.takes, levels, strict=True):
        join = ""
        if listening.join is not None:
            x = spectrogram.WIDTH * listening.join / max(1e-9, take.audio.seconds)
            line = f"M{x:.1f} 0V{spectrogram.HEIGHT}"
            # On light and dark alike: dashes of one over the other.
            join = f'<path class="under" d="{line}"/><path d="{line}"/>'
        image = _base64(spectrogram.png(level, loudest))
        size = f'viewBox="0 0 {spectrogram.WIDTH} {spectrogram.HEIGHT}"'
        name = escape(take.name)
        figures.append(
            f'<figure><figcaption><b class="number">{take.index + 1}</b> {name}</figcaption>\n'
            f'<div class="spectrogram"><img alt="Spectrogram of {name}" '
            f'width="{spectrogram.WIDTH}" height="{spectrogram.HEIGHT}" '
            f'src="data:image/png;base64,{image}">'
            f'<svg {size} preserveAspectRatio="none" aria-hidden="true">{join}</svg></div>\n'
            f'<p class="axis"><span>0 s</span><span>{take.audio.seconds:.1f} s</span></p></figure>'
        )
    top = min(take.audio.sample_rate for take in listening.takes) / 2000
    marked = "" if listening.join is None else f" The line at {listening.join:.1f} s is the join."
    return (
        '<section aria-labelledby="spectrograms">\n<h2 id="spectrograms">Spectrograms</h2>\n'
        f'<div class="spectrograms">\n{"".join(figures)}\n</div>\n'
        f'<p class="note">Mel scale up to {top:.1f} kHz; from {-spectrogram.FLOOR_DB:.0f} dB below '
        f"the loudest place of all (the background) up to it.{marked}</p>\n</section>"
    )


def _facts(matrix: dict[str, Any]) -> str:
    pairs = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts(matrix)
    )
    return (
        '<section aria-labelledby="facts">\n<h2 id="facts">How it was measured</h2>\n'
        f"<dl>\n{pairs}\n</dl>\n</section>\n</main>"
    )
