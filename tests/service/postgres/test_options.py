"""`segue serve --database`: what cannot be used is one line and exit code 2, without a password."""

import pytest

pytest.importorskip("psycopg_pool", reason="no psycopg here: make test-postgres")

from segue import cli

from .server import database

PASSWORD = "hunter2-%21"


def refused(capsys, tmp_path, url):
    options = ("--state-dir", str(tmp_path / "state"), "--port", "0", "--database", url)
    assert cli.main(["serve", *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hunter2" not in said
    return said


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysql://x/y", "--database must be a URL"),
        (f"mysql://user:{PASSWORD}@x/y", "--database must be a URL"),
        (f"postgresql://user:{PASSWORD}@x:port/y", "cannot be used"),
        (f"postgresql://user:{PASSWORD}@x/y?no_such=1", "not as PostgreSQL writes a URL"),
        (f"postgresql://user:{PASSWORD}@[::1/y", "not as PostgreSQL writes a URL"),
        (f"postgresql://user:{PASSWORD}@x", "names no database"),
        (f"postgresql://user:{PASSWORD}@127.0.0.1:1/y", "127.0.0.1:1/y: the database cannot be"),
        (f"postgresql://user:{PASSWORD}@/y?host=/nowhere", "the database cannot be used"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(capsys, tmp_path, url, line):
    assert line in refused(capsys, tmp_path, url)


def test_a_database_that_is_not_there_is_one_line(capsys, tmp_path, running_postgres):
    assert 'database "nothing" does not exist' in refused(
        capsys, tmp_path, running_postgres.url("nothing")
    )


def test_a_database_of_another_version_is_left_alone(capsys, tmp_path, url):
    with database(url) as opened, opened.transaction() as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    assert "another version of segue: schema 99" in refused(capsys, tmp_path, url)


def test_the_url_may_come_from_the_environment(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATABASE", f"postgresql://user:{PASSWORD}@127.0.0.1:1/y")
    assert cli.main(["serve", "--state-dir", str(tmp_path), "--port", "0"]) == 2
    assert "127.0.0.1:1/y: the database cannot be used" in capsys.readouterr().err
