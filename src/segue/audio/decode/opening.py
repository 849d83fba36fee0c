"""Open the input: a file, a named pipe, or standard input."""

from __future__ import annotations

import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import AudioError

STDIN = Path("-")
"""The name of standard input."""

PIPED_BYTES = 4 << 30
"""The most that is read from a pipe, which might never end."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open an input as a seekable file; a pipe is copied to a temporary file first.

    Raises:
        AudioError: the path does not exist, or is neither a file nor a pipe.
        OSError: it cannot be opened.
    """
    if path == STDIN:
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            raise AudioError(f"{path}: nothing is piped into standard input")
        with _spooled(sys.stdin.buffer) as file:
            yield file
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file") from None
    if stat.S_ISDIR(mode):
        raise AudioError(f"{path}: a folder, not a file")
    if stat.S_ISREG(mode):
        with path.open("rb", buffering=0) as file:
            yield file
    elif stat.S_ISFIFO(mode):
        with path.open("rb") as pipe, _spooled(pipe) as file:
            yield file
    else:
        raise AudioError(f"{path}: neither a file nor a pipe")


@contextmanager
def _spooled(pipe: BinaryIO) -> Iterator[BinaryIO]:
    """The content of a pipe, in an anonymous temporary file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        left = PIPED_BYTES
        while chunk := pipe.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise AudioError("there is no end to what comes out of the pipe")
            file.write(chunk)
        yield file
