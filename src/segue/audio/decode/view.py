"""A read-only view of a file: some of its bytes, with others before or between them."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import BinaryIO

import numpy as np

Piece = tuple[int, int] | bytes
"""A range of the file, from its first byte to one behind its last, or inserted bytes."""

_WINDOW = 1 << 18
_SEARCHED = 1 << 12


class View(io.RawIOBase):
    """Pieces of a file, concatenated to a readable file.

    Args:
        file: stays open; its position is changed.
        pieces: in their order.
    """

    def __init__(self, file: BinaryIO, pieces: Iterable[Piece]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if _length(piece) > 0]
        self._ends = list(accumulate(map(_length, self._pieces)))
        self._at = 0

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, all of them if it is None or negative."""
        left = self.size - self._at
        if size is not None and size >= 0:
            left = min(left, size)
        read = []
        while left > 0:
            n = bisect_right(self._ends, self._at)
            piece, end = self._pieces[n], self._ends[n]
            count = min(left, end - self._at)
            offset = self._at - (end - _length(piece))
            if isinstance(piece, bytes):
                chunk = piece[offset : offset + count]
            else:
                self._file.seek(piece[0] + offset)
                chunk = self._file.read(count)
            if not chunk:  # the file has become shorter
                break
            read.append(chunk)
            self._at += len(chunk)
            left -= len(chunk)
        return b"".join(read)

    def readinto(self, buffer: object) -> int:
        """Fill `buffer`, and return how many bytes were read."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        chunk = self.read(len(target))
        target[: len(chunk)] = chunk
        return len(chunk)


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


class Bytes:
    """Random access to the bytes of a file, without a system call for each.

    Attributes:
        size: of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._start, self._window = 0, b""

    def at(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`, fewer at the end of the file."""
        if start < self._start or start + count > self._start + len(self._window):
            self._file.seek(start)
            self._start, self._window = start, self._file.read(max(count, _WINDOW))
        offset = start - self._start
        return self._window[offset : offset + count]

    def find(self, what: bytes, start: int) -> int:
        """Find `what` at or behind `start`; -1 if it is not there."""
        while start < self.size:
            window = self.at(start, _SEARCHED)
            found = window.find(what)
            if found >= 0:
                return start + found
            if len(window) < len(what):
                return -1
            start += len(window) - len(what) + 1
        return -1

    def zeros(self, start: int, end: int) -> bool:
        """Tell whether all bytes from `start` to `end` are zero."""
        while start < end:
            window = self.at(start, min(_WINDOW, end - start))
            if not window or window.strip(b"\0"):
                return False
            start += len(window)
        return True


def converted(samples: np.ndarray, dtype: str) -> np.ndarray:
    """Convert samples of any type to floats in -1 to 1, or to 32-bit integers at full scale."""
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.int16) - 128) << 8
    if dtype == "int32":
        if samples.dtype == np.int16:
            return samples.astype(np.int32) << 16
        if samples.dtype == np.int32:
            return samples
        top = 2.0**31
        whole: np.ndarray = np.clip(np.rint(samples * top), -top, top - 1).astype(np.int32)
        return whole
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(dtype)
    return samples.astype(dtype, copy=False)
