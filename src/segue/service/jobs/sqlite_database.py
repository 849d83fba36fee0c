"""The store's database in a SQLite file: one connection to write and one to read."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .database import Row
from .schema import SCHEMA, for_sqlite


class SqliteDatabase:
    """A SQLite file: writes one at a time, from any thread; reads beside them.

    Reads take microseconds and are for the thread of the event loop.  A write has reached the disk
    when it returns.

    Args:
        path: of the file, which is made if it is not there.

    Attributes:
        writer: the connection that writes.
        now: see `Database`.

    Raises:
        sqlite3.Error: it cannot be used, or another version of segue made it.
    """

    now = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path) -> None:
        self.writer, self._reader = _connect(path), _connect(path)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        (version,) = self.writer.execute("PRAGMA user_version").fetchone()
        if version not in range(SCHEMA + 1):
            raise sqlite3.DatabaseError(f"made by another version of segue: schema {version}")
        if version < SCHEMA:
            self.writer.executescript(
                f"BEGIN; {for_sqlite(version)} PRAGMA user_version = {SCHEMA}; COMMIT;"
            )

    def close(self) -> None:
        """Close both connections, once nobody uses them."""
        with self._writing, self._reading:
            self._reader.close()
            self.writer.close()

    @contextmanager
    def transaction(self, serial: bool = False) -> Iterator[sqlite3.Connection]:
        """Write everything that happens inside, or nothing of it; all are serial here."""
        with self._writing:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                if self.writer.in_transaction:  # a full disk may have rolled back already
                    self.writer.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows that a query finds."""
        with self._reading:
            return self._reader.execute(query, values).fetchall()

    def current_rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows that a query finds when every write before it is done."""
        with self._writing:
            return self.writer.execute(query, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit survives a power cut, too; there are three for a job.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
