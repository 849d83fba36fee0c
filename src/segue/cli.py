"""The command line: one module for each command, which adds its options and runs them.

This module parses the words, and turns errors into one line and an exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from . import standard_streams
from .errors import RequestError, SegueError


@dataclass(frozen=True)
class Command:
    """A command, whose module is imported when it is needed, which takes its time.

    Attributes:
        module: its name within `segue`; it has `add_parser(commands)`, which sets the function that
            `main` runs.
        help: its line in `segue --help`.
    """

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "continue": Command("continue_command", "play on from a piece of audio"),
    "generate": Command("generate_command", "make music from a description"),
    "models": Command("models_command", "what checkpoints are here, and what can be had"),
    "download": Command("download_command", "get a checkpoint, with all that it needs"),
    "quantize": Command("quantize_command", "quantize a checkpoint once and keep it"),
    "recipe": Command("recipe_command", "plan how many bits each layer gets, under a budget"),
    "merge": Command("merge_command", "write a model with its adapters as one"),
    "bench": Command(
        "lab.bench_command", "measure how fast a checkpoint generates, and where the time goes"
    ),
    "matrix": Command(
        "lab.matrix_command",
        "compare variants of a checkpoint: speed, memory, quality, sound; and pick one",
    ),
    "quality": Command("lab.quality.command", "measure what a quantization costs in quality"),
    "serve": Command("service.command", "the plugin's backend, and a page, on this computer"),
    "doctor": Command(
        "doctor.command", "say what a bug report needs, and what is wrong with this installation"
    ),
}

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


def make_parser(commands: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """Return the parser; what it parses has the command's function as `run`.

    Args:
        commands: which of `COMMANDS` have their options; the others are listed.
    """
    parser = _Parser(
        prog="segue", description="Continue music with a MusicGen model.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"segue {version('segue')}")
    added = _Commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    for name, command in COMMANDS.items():
        if name in commands:
            import_module(f"{__package__}.{command.module}").add_parser(added)
        else:
            added.add_parser(name)
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if words[:1] == ["continue"]:
            from .again import expanded  # which most commands have no use for

            words = expanded(words)
        options = make_parser(words).parse_args(words)
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


class _Commands:
    """Adds commands to a parser, each with its line of help."""

    def __init__(self, commands: Any) -> None:
        self._commands = commands

    def add_parser(self, name: str, **options: Any) -> Any:
        """See `argparse`; the help is that of `COMMANDS`."""
        return self._commands.add_parser(name, help=COMMANDS[name].help, **options)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise RequestError(f"{message}; see {self.prog} --help")
