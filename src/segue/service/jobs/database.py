"""What the store needs of a database: one subset of SQL that SQLite and PostgreSQL both speak.

A query marks its values with `?`, and has none of them, and no `%`, in its text.  Names of columns
are keys of a row.  `INTEGER` holds 64 bits and `REAL` is a double; there are no booleans.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, repeat
from typing import Any, Protocol, TypeVar

from ..threads import run_to_end

log = logging.getLogger("segue.service")

T = TypeVar("T")


class DatabaseError(Exception):
    """A database on a server did not do what it was to do."""


class UnreachableError(DatabaseError):
    """The server cannot be reached now; the same may go well later.

    Attributes:
        what: is the matter, in a few words.
    """

    what = "the database cannot be reached"


FAILURES = (OSError, sqlite3.Error, DatabaseError)
"""What a store raises where its disk or its database fails; nothing is half-written then."""


async def until_reached(write: Callable[..., T], *args: Any) -> T:
    """Call a function that writes, in a thread; again and again while the server is not there.

    Only for what may be written late, or twice: a write whose answer was lost may have been done.
    """
    for seconds in chain((0.1, 0.5, 1.0, 2.0), repeat(5.0)):
        try:
            return await run_to_end(write, *args)
        except UnreachableError as error:
            log.warning(error.what, extra={"reason": str(error)})
            await asyncio.sleep(seconds)
    raise AssertionError  # it is repeated for ever


class Row(Protocol):
    """A row, by the names of its columns."""

    def keys(self) -> Iterable[str]:
        """The names of the columns."""
        ...

    def __getitem__(self, name: str, /) -> Any: ...


class Rows(Protocol):
    """What a statement found or did.

    Attributes:
        rowcount: how many rows it changed.
    """

    @property
    def rowcount(self) -> int: ...  # noqa: D102 - an attribute

    def fetchall(self) -> list[Any]:
        """All rows that it found."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Session(Protocol):
    """A transaction, from the inside."""

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, query: str, values: Iterable[Sequence[Any]], /) -> object:
        """Run one statement with many values."""
        ...


class Database(Protocol):
    """A database with the tables of `schema`.

    Reads and writes may come from any thread.  A write has reached the disk when it returns.
    """

    @property
    def now(self) -> str:
        """SQL for the seconds since 1970, by a clock that all who share the database have."""
        ...

    def transaction(self, serial: bool = False) -> AbstractContextManager[Session]:
        """Write everything that happens inside, or nothing of it.

        Args:
            serial: whether no other serial transaction may run meanwhile, anywhere: for what is
                decided by looking at many rows.  Without, each statement finds what is committed
                when it begins.
        """
        ...

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows that a query finds."""
        ...

    def current_rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows that a query finds when every write before it is done."""
        ...

    def close(self) -> None:
        """Close its connections, once nobody uses them."""
        ...
