"""Windows of music as a language model runs them, and their hidden states between two layers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..checkpoints.config import LMConfig
from ..pattern import delay

MAX_BYTES = 1 << 30
"""Of hidden states in memory; those of more windows lie in a temporary file."""

CHUNK_ROWS = 4096
"""Rows that pass a layer at a time, about: whole windows, so attention needs no others."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows as the model runs them.

    Attributes:
        tokens: of each window, `(S, K)`: its sequence in the delay pattern.
        encoded: of each, the text encoder's output `(L, text_dim)`; None for no text.
    """

    tokens: tuple[np.ndarray, ...]
    encoded: tuple[np.ndarray | None, ...]

    @classmethod
    def of(
        cls,
        config: LMConfig,
        codes: Sequence[np.ndarray],
        encoded: Sequence[np.ndarray | None] | None = None,
    ) -> Windows:
        """Lay out windows of codes, each `(K, F)`, and the texts that go with them."""
        tokens = [delay(each, config.delays, config.special_token).T for each in codes]
        texts = [None] * len(tokens) if encoded is None else encoded
        return cls(tuple(tokens), tuple(texts))

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, numbers: Sequence[int]) -> Windows:
        """Return those with the numbers `numbers`, in that order."""
        tokens = tuple(self.tokens[n] for n in numbers)
        return Windows(tokens, tuple(self.encoded[n] for n in numbers))


class Rows(Protocol):
    """A matrix of float32 that is read and written some rows at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """Its rows and columns."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows, which are not written to."""

    def write(self, start: int, rows: np.ndarray) -> None:
        """Replace rows from `start` on."""


class _RowsInMemory:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._values = np.empty(shape, np.float32)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._values[start:stop]

    def write(self, start: int, rows: np.ndarray) -> None:
        self._values[start : start + len(rows)] = rows


class _RowsInFile:
    """In a file without a name, which goes when nobody has it any more, killed processes too."""

    def __init__(self, shape: tuple[int, int], folder: Path | None) -> None:
        self.shape = shape
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def read(self, start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, self.shape[1]), np.float32)
        left = rows.data.cast("B")
        self._file.seek(start * self.shape[1] * 4)
        while left:
            count = self._file.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise OSError("a temporary file was cut short")
            left = left[count:]
        return rows

    def write(self, start: int, rows: np.ndarray) -> None:
        left = np.ascontiguousarray(rows, np.float32).data.cast("B")
        self._file.seek(start * self.shape[1] * 4)
        while left:
            left = left[self._file.write(left) :]


def empty_rows(
    shape: tuple[int, int], folder: Path | None = None, limit: int | None = None
) -> Rows:
    """Return room for rows: in memory, or beyond a limit in a temporary file.

    Args:
        shape: rows and columns.
        folder: where the file lies; None is the system's.
        limit: bytes in memory; None is `MAX_BYTES`.
    """
    limit = MAX_BYTES if limit is None else limit
    return _RowsInMemory(shape) if 4 * shape[0] * shape[1] <= limit else _RowsInFile(shape, folder)


@dataclass(frozen=True, eq=False)
class Hidden:
    """The hidden states of windows between two layers.

    Attributes:
        rows: `(rows, dim)` of all windows, one below the other.
        edges: `(N + 1,)`, the row where each window begins; the last is where all end.
        counts: the columns of each window, at its end; before them may be a prefix.
        text: of each window, what cross-attention reads `(L, dim)`; None for nothing.
        folder: where rows are kept that memory has no room for; None is the system's.
    """

    rows: Rows
    edges: np.ndarray
    counts: tuple[int, ...]
    text: tuple[np.ndarray | None, ...]
    folder: Path | None = None

    @property
    def x(self) -> np.ndarray:
        """All rows, in memory."""
        return self.rows.read(0, self.rows.shape[0])

    def with_x(self, x: np.ndarray) -> Hidden:
        """Return the same windows with other values, in memory."""
        rows = _RowsInMemory(x.shape)
        rows.write(0, x)
        return self.with_rows(rows)

    def with_rows(self, rows: Rows) -> Hidden:
        """Return the same windows with other values."""
        return Hidden(rows, self.edges, self.counts, self.text, self.folder)

    def like(self) -> Hidden:
        """Return the same windows with room for values."""
        return self.with_rows(empty_rows(self.rows.shape, self.folder))

    def part(self, first: int, behind: int) -> Hidden:
        """Return a copy of some windows."""
        start, stop = int(self.edges[first]), int(self.edges[behind])
        rows = empty_rows((stop - start, self.rows.shape[1]), self.folder)
        rows.write(0, self.rows.read(start, stop))
        edges, window = self.edges[first : behind + 1] - start, slice(first, behind)
        return Hidden(rows, edges, self.counts[window], self.text[window], self.folder)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield the first window and the one behind the last of each chunk of `CHUNK_ROWS`."""
        first = 0
        for n, stop in enumerate(self.edges[1:]):
            if n > first and stop - self.edges[first] > CHUNK_ROWS:
                yield first, n
                first = n
        if first < len(self.counts):
            yield first, len(self.counts)

    def columns(self, first: int, behind: int) -> np.ndarray:
        """The rows of the columns of some windows, without what is before them."""
        ends, counts = self.edges[first + 1 : behind + 1], self.counts[first:behind]
        parts = [self.rows.read(end - n, end) for end, n in zip(ends, counts, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def spread(self, columns: np.ndarray) -> np.ndarray:
        """Rows of all windows, zero but for those of their columns: what `columns` undoes."""
        if len(columns) == self.rows.shape[0]:
            return columns
        rows, start = np.zeros(self.rows.shape, np.float32), 0
        for end, n in zip(self.edges[1:], self.counts, strict=True):
            rows[end - n : end] = columns[start : (start := start + n)]
        return rows
