"""Standard output and error as they may be: closed, full, or without a reader.

What a command is for is done by the time it prints; so what cannot be printed is said in a line if
there is anywhere to say it, and loses nothing else.
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
    """Let the block print, whatever the standard streams are.

    A stream that is closed leads nowhere, instead of its number going to the next file that is
    opened, which libraries would then print into.  Of the error stream, failures are ignored: it
    carries messages, and none is worth the work that it speaks of.

    Raises:
        BrokenPipeError: nobody reads what the block prints any more, as after `| head`.
        OutputError: it cannot be printed; one line.
    """
    _open_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8, nor a terminal
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
    """A text stream that has its own way with failures."""

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


class _Messages(_Stream):
    """Nobody hears that it fails."""

    def _failures(self) -> AbstractContextManager[None]:
        return suppress(OSError)


class _Output(_Stream):
    """Fails in one line, and once."""

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is left to be printed would be tried again when Python ends, which complains.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
                self._stream.flush()
            if isinstance(error, BrokenPipeError):
                raise
            reason = str(error.strerror or error)
            raise OutputError(f"standard output cannot be written ({reason})", reason) from None
