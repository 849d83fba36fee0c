"""`segue continue --again`: play on from what was made before, with what it was made with.

A report names the file, the model and all that the music was played with.  `--again` stands for the
words of the command line that say the same; what is typed beside it comes after them, and wins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import outputs
from .checkpoints.recipe import Recipe
from .errors import RequestError, SegueError
from .lab.variant import Variant
from .storage import is_address

_AGAIN, _TAKE = "--again", "--take"
_LAST = "last.json"

_NUMBERS = ("top_k", "top_p", "temperature", "guidance_coef", "extend_stride", "kv_bits")
_WORDS = ("activations",)
_OF_BARS = ("beats_per_bar", "snap")
_QUANTIZING = ("--recipe", "--quantize", "--q-bits", "--quant-scope", "--method")


def remember(report: Mapping[str, Any]) -> None:
    """Keep a report as the last one, where the system lets us."""
    there = [
        each if is_address(each["path"]) else {**each, "path": str(Path(each["path"]).absolute())}
        for each in report["outputs"]
    ]
    path = _last()
    with suppress(OSError, SegueError):  # a full or read-only disk: the music itself is there
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs.write_json(path, {**report, "outputs": there})


def _last() -> Path:
    """Where the last report is kept: what programs remember is state, not cache, by XDG's words."""
    root = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(root) / "segue" / _LAST


def expanded(words: Sequence[str]) -> list[str]:
    """Put in the place of `--again [REPORT]` what it stands for.

    Args:
        words: of a command line, without the program's name.

    Raises:
        RequestError: there is no such report, or it is none.
    """
    words = list(words)
    at = next((n for n, word in enumerate(words) if word.split("=")[0] == _AGAIN), None)
    if words[:1] != ["continue"] or at is None:
        return words
    name, words[at : at + 1] = words[at].partition("=")[2], []
    if not name and at < len(words) and not words[at].startswith("-"):
        name = words.pop(at)
    number = 1
    if _TAKE in words[:-1]:
        where = words.index(_TAKE)
        typed = words[where + 1]
        del words[where : where + 2]
        if not typed.isdecimal() or int(typed) < 1:
            raise RequestError(f"--take {typed}: takes are counted from 1")
        number = int(typed)
    report, path = _report(name)
    rest = words[1:]
    return [words[0], str(_audio_of(report, path, number)), *_words_of(report, number, rest), *rest]


def _report(name: str) -> tuple[dict[str, Any], Path]:
    path = Path(name) if name else _last()
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["outputs"][0]["path"] and report["model"]:
            return report, path
    except FileNotFoundError:
        if not name:
            raise RequestError(
                "nothing was made before on this computer; name a file: segue continue song.wav"
            ) from None
        raise RequestError(f"{path}: there is no such report") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, IndexError, TypeError):
        pass
    raise RequestError(f"{path}: no report of segue continue; --report-json writes one")


def _audio_of(report: Mapping[str, Any], path: Path, number: int) -> Path:
    """The file of a take, by its place from here or, a report that was moved, beside the report."""
    takes = _takes_of(report)
    if number > len(takes):
        raise RequestError(f"{path}: it has {len(takes)} takes, and none {number}")
    of_take = takes[number - 1]
    name = next((o for o in of_take if o.get("cut") == "whole"), of_take[0])["path"]
    if is_address(name):
        raise RequestError(f"{name}: in shared storage; fetch it, and name the file")
    named = Path(name)
    beside = path.parent / named.name
    return beside if not named.exists() and beside.exists() else named


def _takes_of(report: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The files of each take."""
    takes: dict[Any, list[Mapping[str, Any]]] = {}
    for output in report["outputs"]:
        takes.setdefault(output.get("seed"), []).append(output)
    return list(takes.values())


def _text_of(report: Mapping[str, Any], number: int) -> str:
    """The text that a take was played with last."""
    parts = report.get("parts") or [report]
    text: str | None = parts[-1].get("text", "")
    if text is None:  # takes have texts of their own
        text = _takes_of(report)[number - 1][0].get("text")
    return text or ""


def _words_of(report: Mapping[str, Any], number: int, typed: Sequence[str]) -> list[str]:
    """The options that a report stands for, but for those that are typed and add up with them."""
    options = {word.split("=")[0] for word in typed}
    words = ["--prompt-from-end", "--model", report["model"], "--engine", report["engine"]]
    if report.get("base_model"):
        words += ["--base-model", report["base_model"]]
    if not options & set(_QUANTIZING):
        recipe = report.get("recipe")
        recipe = None if recipe is None else Recipe.from_json(recipe)
        words += Variant("again", report.get("cast_dtype"), recipe).options()
    if "--adapter" not in options:
        words += [word for name in report.get("adapters", ()) for word in ("--adapter", name)]
    if "--text" not in options:
        words += [f"--text={_text_of(report, number)}"]
    if report.get("allow_empty_text_cfg"):
        words.append("--allow-empty-text-cfg")
    if report.get("melody"):
        words += ["--melody", report["melody"]]
    names = [*_NUMBERS, *_WORDS]
    if report.get("bpm"):
        words += [f"--bpm={report['bpm']}", f"--downbeat={report.get('downbeat_seconds', 0)}"]
        names += _OF_BARS
    for name in names:
        if report.get(name) is not None:
            words.append(f"--{name.replace('_', '-')}={report[name]}")
    return words
