"""The store's SQLite database: its tables, one connection to write and one to read."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = 3

_TABLES = """
CREATE TABLE inputs (
    id TEXT PRIMARY KEY,
    sample_rate INTEGER NOT NULL,
    channels INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    input TEXT NOT NULL REFERENCES inputs (id),
    asked TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    finished REAL,
    result TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    error TEXT
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_input ON jobs (input);
CREATE TABLE downloads (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created REAL NOT NULL,
    finished REAL
) STRICT;
CREATE TABLE speeds (
    key TEXT PRIMARY KEY,
    seconds REAL NOT NULL,
    count INTEGER NOT NULL
) STRICT;
"""

_SECOND = """
ALTER TABLE inputs ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE inputs ADD COLUMN added REAL NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN parent TEXT;
ALTER TABLE jobs ADD COLUMN parent_take INTEGER;
ALTER TABLE jobs ADD COLUMN parent_seconds REAL;
ALTER TABLE jobs ADD COLUMN root TEXT;
CREATE INDEX jobs_by_root ON jobs (root);
CREATE TABLE marks (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    take INTEGER NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    starred INTEGER NOT NULL DEFAULT 0,
    deleted REAL,
    beats TEXT,
    PRIMARY KEY (job, take)
) STRICT;
"""
"""What the second version added: chains of takes, and what people say of them."""

_THIRD = """
ALTER TABLE jobs ADD COLUMN client TEXT NOT NULL DEFAULT '';
CREATE TABLE usage (
    job TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    created REAL NOT NULL,
    seconds REAL NOT NULL
) STRICT;
CREATE INDEX usage_by_client ON usage (client, created);
"""
"""What the third version added: whose a job is, and how much music a client has had made.

The rows of `usage` outlive their jobs: who removes music has had it made all the same.
"""


class Database:
    """A SQLite file: writes one at a time, from any thread; reads beside them.

    Reads take microseconds and are for the thread of the event loop.  A write has reached the disk
    when it returns.

    Args:
        path: of the file, which is made if it is not there.

    Attributes:
        writer: the connection that writes.

    Raises:
        sqlite3.Error: it cannot be used, or another version of segue made it.
    """

    def __init__(self, path: Path) -> None:
        self.writer, self._reader = _connect(path), _connect(path)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        (version,) = self.writer.execute("PRAGMA user_version").fetchone()
        if version not in range(SCHEMA + 1):
            raise sqlite3.DatabaseError(f"made by another version of segue: schema {version}")
        if version < SCHEMA:
            steps = "".join((_TABLES, _SECOND, _THIRD)[version:])
            self.writer.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA}; COMMIT;")

    def close(self) -> None:
        """Close both connections, once nobody uses them."""
        with self._writing, self._reading:
            self._reader.close()
            self.writer.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write everything that happens inside, or nothing of it."""
        with self._writing:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                if self.writer.in_transaction:  # a full disk may have rolled back already
                    self.writer.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """The rows that a query finds."""
        with self._reading:
            return self._reader.execute(query, values).fetchall()

    def current_rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
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
