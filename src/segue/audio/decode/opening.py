"""What is read: a file, a named pipe, or standard input."""

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
"""The name of what comes through standard input."""

PIPED_BYTES = 4 << 30
"""More than that out of a pipe is no file: it would not end."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file that can be searched: what comes through a pipe is kept until it is read.

    Raises:
        AudioError: there is nothing of that name, or it is neither a file nor a pipe.
        OSError: it cannot be opened.
    """
    if path == STDIN:
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            raise AudioError(f"{path}: nothing is piped into standard input")
        with _kept(sys.stdin.buffer) as file:
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
        with path.open("rb") as pipe, _kept(pipe) as file:
            yield file
    else:
        raise AudioError(f"{path}: neither a file nor a pipe")


@contextmanager
def _kept(pipe: BinaryIO) -> Iterator[BinaryIO]:
    """All that comes out of a pipe, in a file without a name."""
    with tempfile.TemporaryFile(buffering=0) as file:
        left = PIPED_BYTES
        while chunk := pipe.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise AudioError("there is no end to what comes out of the pipe")
            file.write(chunk)
        yield file
