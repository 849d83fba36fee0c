"""The command `segue doctor`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.console import Console

from ..errors import RequestError
from ..options import HelpFormatter
from ..service.settings import Settings
from .checks import Report, add_self_test, engines, examine

PROBLEMS = 1
MAX_PORT = 65_535


def add_parser(commands: Any) -> None:
    """Add `segue doctor` to the command line's subparsers."""
    parser = commands.add_parser(
        "doctor",
        description="Print versions, devices, folders, checkpoints and the port's owner, and run a "
        "small continuation on each engine whose codes are known.  Exit code 1 if anything is "
        "wrong.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--port", type=int, default=Settings.port, help="the service's port to look at"
    )
    parser.add_argument(
        "--no-self-test", action="store_true", help="do not load and run the engines"
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Run the checks and self-tests, print the findings, and return the exit code."""
    if not 1 <= options.port <= MAX_PORT:
        raise RequestError(f"port must lie between 1 and {MAX_PORT}, not {options.port}")
    report = examine(options.port)
    for engine in [] if options.no_self_test else engines():
        add_self_test(report, engine)
    if options.json:
        Console().out(json.dumps(asdict(report), indent=2), highlight=False)
    else:
        for line in _lines(report):
            Console().print(line, highlight=False, markup=False, soft_wrap=True)
    return PROBLEMS if report.problems else 0


def _lines(report: Report) -> list[str]:
    about = report.machine
    lines = [
        f"{about['system']}, {about['architecture']}, {about['processor']}, "
        f"{about['cores']} cores, {_size(about['memory_bytes'])} of memory",
        "gpu: " + (", ".join(f"{k} {v}" for k, v in report.gpu.items()) if report.gpu else "none"),
        "packages: "
        + ", ".join(f"{name} {version}" for name, version in report.packages.items() if version),
        "audio: " + ", ".join(f"{name} {version}" for name, version in report.audio.items()),
    ]
    for name, folder in report.folders.items():
        state = "can be written" if folder["writable"] else "CANNOT be written"
        lines.append(f"{name}: {folder['path']}, {_size(folder['bytes'])}, {state}")
    for model in report.models:
        state = "complete" if model["complete"] else f"no {', '.join(model['missing'])}"
        lines.append(f"model {model['name']}: {_size(model['bytes'])}, {state}")
    port = report.port
    lines.append(
        f"port {port['port']}: " + (f"taken by {port['by'] or '?'}" if port["taken"] else "free")
    )
    lines += [_self_test_line(test) for test in report.self_tests]
    lines += [f"PROBLEM: {problem}" for problem in report.problems] or ["nothing is wrong"]
    return lines


def _self_test_line(test: dict[str, Any]) -> str:
    if test["error"] is not None:
        return f"self-test {test['engine']}: {test['error']}"
    frame = test["first_other_frame"]
    same = "the expected codes" if frame is None else f"other codes from frame {frame} on"
    return (
        f"self-test {test['engine']} ({test['device']}, {test['dtype']}): {same}; "
        f"{test['prompt_codes']:.1%} of the prompt's codes and {test['likeliest_tokens']:.1%} of "
        f"the likeliest tokens as expected; loaded in {test['load_seconds']:.1f} s, "
        f"ran in {test['run_seconds']:.1f} s"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
