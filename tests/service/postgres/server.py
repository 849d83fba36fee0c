"""A real PostgreSQL in a folder of its own, on a Unix socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from segue.service.jobs.postgres_database import PostgresDatabase

_OF_DEBIAN = Path("/usr/lib/postgresql")
_QUICK = "-c fsync=off -c full_page_writes=off -c max_connections=60"
"""Nothing waits for a disk.  What is committed is written, so that `stop` loses none of it."""


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    versions = _OF_DEBIAN.glob("*/bin/initdb")
    folders += [path.parent for path in sorted(versions, key=lambda path: path.parent.parent.name)]
    return folders[-1] if folders else None


class Postgres:
    """A server that runs, and has databases for whoever wants one.

    Args:
        folder: of its files, and of its socket: the path must be short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self._numbers = count(1)
        bin_ = programs()
        assert bin_ is not None
        self._bin = bin_
        if os.geteuid() == 0:  # which PostgreSQL refuses
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "segue", "-A", "trust", "-N")

    def _run(self, program: str, *options: str) -> None:
        command = [str(self._bin / program), *options]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            command = [
                *("setpriv", "--clear-groups"),
                *("--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), *command),
            ]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-k {self._folder} -c listen_addresses='' {_QUICK}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data))

    def url(self, name: str) -> str:
        """Of a database, which need not be there."""
        return f"postgresql://segue@/{name}?host={self._folder}"

    def new_database(self) -> str:
        """The URL of a database without tables."""
        import psycopg

        name = f"segue{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="segue-pg-", dir="/tmp"))
    try:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(url: str) -> Iterator[PostgresDatabase]:
    """Look into a database beside the fronts that use it."""
    opened = PostgresDatabase(url)
    try:
        yield opened
    finally:
        opened.close()
