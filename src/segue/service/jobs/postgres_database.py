"""The store's database on a PostgreSQL server, which several fronts share.

Imported where one is named, and only then: psycopg is the extra `postgres`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...errors import RequestError, SegueError
from .database import DatabaseError, Row, Rows, UnreachableError
from .schema import SCHEMA, for_postgres

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool, PoolTimeout
except ImportError:
    raise RequestError('--database needs psycopg; pip install "segue[postgres]"') from None

# What the pool has to say, `UnreachableError` says, too, in the log's own format.
logging.getLogger("psycopg").addHandler(logging.NullHandler())
logging.getLogger("psycopg").propagate = False

_TABLES_IN = "segue"
"""The schema, in PostgreSQL's sense, that the tables lie in: others may use the database, too."""

_SERIAL = int.from_bytes(b"segue")
"""The advisory lock of serial transactions, which ends with them."""

_CONNECT_SECONDS = 10

_WAIT_SECONDS, _WAIT_SECONDS_WHILE_GONE = 3.0, 0.1
"""For a connection: whoever finds the server gone waits long, who comes then does not: they may be
the thread that answers all requests."""

_SESSION = (
    f"SET search_path = {_TABLES_IN}",
    # A front that stalls in the middle of a transaction must not stop all others.
    "SET idle_in_transaction_session_timeout = '5s'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '30s'",
)


class PostgresDatabase:
    """A database on a PostgreSQL server, 12 or newer.

    Args:
        url: `postgresql://USER@HOST/NAME`, or what else libpq takes; what it leaves open, the
            password say, comes from where libpq looks: `$PGPASSWORD`, `~/.pgpass`.

    Attributes:
        place: of the database, for messages; never with a password.
        now: see `Database`.

    Raises:
        SegueError: the URL is none, there is no such database, or another version of segue made it.
    """

    now = "EXTRACT(EPOCH FROM clock_timestamp())::DOUBLE PRECISION"

    def __init__(self, url: str) -> None:
        given, self.place = _parsed(url)
        self._gone = False
        conninfo = make_conninfo(
            **{
                "connect_timeout": _CONNECT_SECONDS,
                "application_name": "segue",
                # A server that vanishes with its machine is found out within half a minute.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                **given,
            }
        )
        try:
            with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
                self._prepare(connection)
            self._pool = ConnectionPool(
                conninfo,
                min_size=1,
                max_size=6,
                kwargs={"autocommit": True, "row_factory": dict_row},
                configure=_configure,
                open=True,
            )
        except psycopg.Error as error:
            reason = _line(error, given.get("password"))
            raise SegueError(
                f"{self.place}: the database cannot be used ({reason}); look at --database"
            ) from None

    def _prepare(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        """Make the tables, or bring those of an earlier version to this one; once, whoever comes.

        Raises:
            SegueError: another version of segue made them.
        """
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SERIAL,))
            there = connection.execute("SELECT to_regnamespace(%s) AS n", (_TABLES_IN,)).fetchone()
            if there is None or there["n"] is None:
                connection.execute(f"CREATE SCHEMA {_TABLES_IN}")
            connection.execute(f"SET LOCAL search_path = {_TABLES_IN}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
            found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
            version = "0" if found is None else str(found["value"])
            if version not in map(str, range(SCHEMA + 1)):
                raise SegueError(
                    f"{self.place}: the database was made by another version of segue: schema "
                    f"{version}, and this one has {SCHEMA}; name another with --database"
                )
            for statement in for_postgres(int(version)):
                connection.execute(statement)  # type: ignore[arg-type, unused-ignore]
            connection.execute(
                "INSERT INTO meta (key, value) VALUES ('schema', %s) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (str(SCHEMA),),
            )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def transaction(self, serial: bool = False) -> Iterator[_Session]:
        """Write everything that happens inside, or nothing of it; see `Database`."""
        with self._connected() as connection, connection.transaction():
            if serial:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SERIAL,))
            yield _Session(connection)

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows that a query finds."""
        try:
            return self._read(query, values)
        except UnreachableError as error:
            if isinstance(error.__cause__, PoolTimeout):
                raise
            return self._read(query, values)  # its connection was of a server that was restarted

    current_rows = rows

    def _read(self, query: str, values: tuple[object, ...]) -> list[Row]:
        with self._connected() as connection:
            return list(_Session(connection).execute(query, values).fetchall())

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        try:
            wait = _WAIT_SECONDS_WHILE_GONE if self._gone else _WAIT_SECONDS
            with self._pool.connection(wait) as connection:
                self._gone = False
                yield connection
        except PoolTimeout as error:
            self._gone = True
            raise UnreachableError(f"{self.place}: {_line(error)}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise UnreachableError(f"{self.place}: {_line(error)}") from error
        except psycopg.Error as error:
            raise DatabaseError(f"{self.place}: {_line(error)}") from error


class _Session:
    """A connection that takes the store's SQL."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Rows:
        rows: Rows = self._connection.execute(_marked(query), [*map(_stored, values)])
        return rows

    def executemany(self, query: str, values: Iterable[Sequence[Any]], /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_marked(query), [[*map(_stored, each)] for each in values])


def _marked(query: str) -> Any:
    """Mark values as psycopg does; its types take literal strings alone, for queries are ours."""
    return query.replace("?", "%s")


def _stored(value: Any) -> Any:
    """A value as the tables hold it: there are no booleans, and no text holds a NUL."""
    if isinstance(value, bool):
        return int(value)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _configure(connection: psycopg.Connection[Any]) -> None:
    for statement in _SESSION:
        connection.execute(statement)  # type: ignore[arg-type, unused-ignore]


def _parsed(url: str) -> tuple[dict[str, Any], str]:
    """What a URL says, and how it is named where people read it.

    Raises:
        RequestError: it is none; the line does not repeat it, for a password may be in it.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise RequestError(
            "--database is not as PostgreSQL writes a URL: postgresql://USER@HOST/NAME"
        ) from None
    if not given.get("dbname"):
        raise RequestError("--database names no database: postgresql://USER@HOST/NAME")
    host = f"{given.get('host', '')}" + (f":{given['port']}" if "port" in given else "")
    return given, f"postgresql://{host}/{given['dbname']}"


def _line(error: psycopg.Error, password: object = None) -> str:
    """What an error says, in one line, without the password."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = next(filter(None, reversed(lines)), type(error).__name__)
    return said.replace(str(password), "***") if password else said
