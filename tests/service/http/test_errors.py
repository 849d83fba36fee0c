"""What a response says of an error, decided by its type and code."""

import errno
import sqlite3

import pytest

from segue.service.settings import Settings
from tests.service.in_process import InProcess, line_of

HEADERS = "Host: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
REQUEST = f"POST /api/jobs HTTP/1.1\r\n{HEADERS}Content-Length: 2\r\n\r\n{{}}".encode()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with InProcess(Settings(state=tmp_path_factory.mktemp("state"))) as running:
        yield running


def full_database():
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE jobs (request TEXT)")
        db.execute("PRAGMA max_page_count = 2")
        db.execute("INSERT INTO jobs VALUES (?)", ("x" * 100_000,))


def unknown_table():
    sqlite3.connect(":memory:").execute("SELECT * FROM full")


def failing_disk():
    error = sqlite3.OperationalError("a write failed")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    raise error


def quota():
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


def forbidden():
    raise PermissionError(errno.EACCES, "Permission denied: the disk is full of secrets")


@pytest.mark.parametrize(
    ("fail", "status", "words"),
    [
        (full_database, 507, "the disk of this computer is full"),
        (failing_disk, 507, "the disk of this computer is full"),
        (quota, 507, "the disk of this computer is full"),
        (unknown_table, 500, "cannot use its folder on the disk"),
        (forbidden, 500, "cannot use its folder on the disk"),
    ],
)
def test_a_code_and_no_word_says_that_the_disk_is_full(running, monkeypatch, fail, status, words):
    monkeypatch.setattr(running.service.jobs.admission, "reserve", lambda client: fail())
    got, _, body = running.send(REQUEST)
    assert got == status
    assert words in line_of(body)
