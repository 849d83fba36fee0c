"""The tables of the store, as steps from one version of the schema to the next.

They are in SQLite's words; `for_postgres` says them in PostgreSQL's.
"""

from __future__ import annotations

_FIRST = """
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

_FOURTH = """
ALTER TABLE jobs ADD COLUMN melody TEXT;
ALTER TABLE jobs ADD COLUMN front TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN listened INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_melody ON jobs (melody);
ALTER TABLE downloads ADD COLUMN front TEXT NOT NULL DEFAULT '';
CREATE TABLE fronts (
    id TEXT PRIMARY KEY,
    seen REAL NOT NULL,
    places INTEGER NOT NULL,
    progress TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE holds (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    front TEXT NOT NULL,
    input TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""
"""What the fourth version added: the fronts that share a database.

A job's `front` is the one that accepted it, and then the one that runs it; `listened` is 1 where
another front streams it.  `holds` are inputs that a front is making a job of.  `meta` is what all
fronts must agree on; PostgreSQL has it before any version, for the version is in it.
"""

_FIFTH = """
ALTER TABLE inputs ADD COLUMN client TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_by_client ON jobs (client, number);
ALTER TABLE jobs ADD COLUMN turn REAL NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN turn_end REAL NOT NULL DEFAULT 0;
CREATE INDEX usage_by_turn ON usage (turn_end);
CREATE INDEX usage_by_turn_of_client ON usage (client, turn_end);
"""
"""What the fifth version added: whose an input is, and whose turn it is; see `turns`."""

STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
SCHEMA = len(STEPS)

SQLITE_ONLY = {4: "UPDATE jobs SET melody = json_extract(asked, '$.request.melody');"}
"""What must be done with rows, by version; no earlier version was ever in PostgreSQL."""

_IN_POSTGRES = {
    "INTEGER PRIMARY KEY AUTOINCREMENT": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    ") STRICT": ")",
}


def for_sqlite(version: int) -> str:
    """The statements that bring a database of an earlier version to this one."""
    numbers = range(version + 1, SCHEMA + 1)
    return "".join(STEPS[number - 1] + SQLITE_ONLY.get(number, "") for number in numbers)


def for_postgres(version: int) -> list[str]:
    """The statements that bring a database of an earlier version to this one."""
    text = "".join(STEPS[version:])
    for here, there in _IN_POSTGRES.items():
        text = text.replace(here, there)
    return [statement for each in text.split(";") if (statement := each.strip())]
