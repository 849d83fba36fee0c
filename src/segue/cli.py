"""The command line: one module for each command, which adds its options and runs them.

This module parses the words, and turns errors into one line and an exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from . import (
    again,
    continue_command,
    download_command,
    generate_command,
    merge_command,
    models_command,
    quantize_command,
    recipe_command,
    standard_streams,
)
from .doctor import command as doctor_command
from .errors import RequestError, SegueError
from .lab import bench_command, matrix_command
from .lab.quality import command as quality_command
from .service import command as serve_command

COMMANDS = (
    continue_command,
    generate_command,
    models_command,
    download_command,
    quantize_command,
    recipe_command,
    merge_command,
    bench_command,
    matrix_command,
    quality_command,
    serve_command,
    doctor_command,
)
"""Each has `add_parser(commands)`, which sets the function that `main` runs."""

UNREAD = 1
BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words after `segue`; None takes those of the process.

    Returns:
        The exit code: the command's own; 2 for bad input and for a system that does not let segue
        do it; 130 after Ctrl-C; 1 where nobody reads what is printed any more.
    """
    with standard_streams.prepared():
        try:
            return _run(arguments)
        except SegueError as error:
            line = str(error)
        except BrokenPipeError:
            return UNREAD
        except OSError as error:  # the last resort: nearer the call there is more to say
            line = _describe(error)
        except KeyboardInterrupt:
            print("segue: stopped", file=sys.stderr)  # noqa: T201
            return INTERRUPTED
        print(f"segue: {line}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it parses has the command's function as `run`."""
    parser = _Parser(
        prog="segue", description="Continue music with a MusicGen model.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"segue {version('segue')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if arguments is None else arguments
        words = again.expanded(words)
        options = make_parser().parse_args(words)
        options.words = words
        code: int = options.run(options)
    except SystemExit:  # after --help and --version, and of rich, when nobody reads any more
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # here, where a failure can still be reported
    return code


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}"
    try:
        Path.cwd()
    except OSError:
        return "the working folder is not there any more; go to another"
    return reason


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise RequestError(f"{message}; see {self.prog} --help")
