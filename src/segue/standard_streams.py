"""Print to standard streams that may be closed, full, or without a reader.

A command prints when its work is done; so a failure to print is reported in one line where that is
possible, and nothing else is lost.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TextIO, cast

from .errors import OutputError


@contextmanager
def prepared() -> Iterator[None]:
    """Make standard streams safe for the block.

    A closed stream is replaced by the null device; otherwise its number would go to the next file
    that is opened, and libraries would print into that.  Failures of the error stream are ignored:
    no message is worth the work that it is about.

    Raises:
        BrokenPipeError: standard output has no reader any more, as after `| head`.
        OutputError: standard output cannot be written; one line.
    """
    _open_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files, and terminals, need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, _Output(out)), cast(TextIO, _Messages(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def _open_closed() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    # Python has no streams for what was closed when it started.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


class _Stream:
    """A text stream with its own handling of failures."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """See `io.TextIOBase.write`."""
        with self._failures():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See `io.TextIOBase.flush`."""
        with self._failures():
            self._stream.flush()

    def _failures(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _drop(self) -> None:
        """Send the rest to the null device: Python flushes it when it ends, and exits with 120."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream.flush()


class _Messages(_Stream):
    """Ignores failures."""

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._drop()


class _Output(_Stream):
    """Raises the first failure, as one line."""

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._drop()
            if isinstance(error, BrokenPipeError):
                raise
            reason = str(error.strerror or error)
            raise OutputError(f"standard output cannot be written ({reason})", reason) from None
