"""The file of clients: what it says, and what is said of one that cannot be used."""

import hashlib
import logging
import re
from pathlib import Path

import pytest

from segue.cli import main
from segue.errors import RequestError
from segue.service.clients import Client, Clients, read

A, B = "a-token-of-32-characters-or-so-1", "b-token-of-32-characters-or-so-2"


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


FILE = f"""
[defaults]
jobs_per_minute = 60
seconds_per_day = 3600
weight = 2

[clients.anna]
token = "{A}"
weight = 0.5

[clients."studio-1.b"]
token_sha256 = "{sha256(B).upper()}"
admin = true
jobs_at_once = 4
jobs_per_minute = inf
"""

ANNA = Client("anna", False, 60, None, 3600.0, 0.5)
STUDIO = Client("studio-1.b", True, None, 4, 3600.0, 2.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clients.toml"
    path.write_text(FILE)
    return path


def test_a_client_has_its_own_limits_and_those_of_all(path):
    assert [client for client, _ in read(path)] == [ANNA, STUDIO]
    clients = Clients(path)
    assert clients.of_token(A.encode()) == ANNA
    assert clients.of_token(B.encode()) == STUDIO
    for wrong in (b"", A[:-1].encode(), sha256(B).encode(), b"\xff" * 40):
        assert clients.of_token(wrong) is None


def test_a_client_sees_its_own_and_an_admin_all():
    assert ANNA.sees("anna")
    assert not ANNA.sees("studio-1.b")
    assert not ANNA.sees("")
    assert STUDIO.sees("anna")
    assert STUDIO.sees("")


def test_a_file_is_read_again_and_one_that_cannot_be_used_changes_nothing(path, caplog):
    clients = Clients(path)
    path.write_text(f'[clients.carla]\ntoken = "{A}"\n')
    clients.reload()
    assert clients.of_token(A.encode()) == Client("carla")
    assert clients.of_token(B.encode()) is None
    path.write_text(f'[clients.anna]\ntoken = "{B}"\nweight = 0\n')
    with caplog.at_level(logging.ERROR, logger="segue.service"):
        clients.reload()
    assert clients.of_token(A.encode()) == Client("carla")
    assert "weight must be" in caplog.records[-1].reason
    assert B not in caplog.text


def test_the_page_on_clusters_shows_a_file_that_can_be_used(path):
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path.write_text(example.replace('"…"', f'"{sha256(B)}"'))
    assert [(client.name, client.admin) for client, _ in read(path)] == [
        ("anna", False),
        ("operator", True),
    ]


def one(table, name="anna"):
    return f'[clients.{name}]\ntoken = "{A}"\n{table}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there are no clients in it"),
        ("[defaults]\nweight = 1", "there are no clients in it"),
        ("clients = 3", "clients must be a table"),
        ("[clients]\nanna = 3", "anna must be a table"),
        ("[client.anna]", "the file has no 'client'; it may have defaults, clients"),
        ("[clients.anna", "it is no TOML (Expected ']'"),
        ("\udcff", "it is no TOML (not UTF-8)"),
        (one("", '"an na"'), "[clients.an na]: a name has up to 64 letters"),
        (one("", '""'), "[clients.]: a name has"),
        (one("wieght = 2"), "[clients.anna] has no 'wieght'; it may have token,"),
        (one("admin = 1"), "admin must be true or false"),
        (one("weight = inf"), "weight must be a number between 0.001 and 1000"),
        (one("weight = nan"), "weight must be a number"),
        (one("weight = true"), "weight must be a number"),
        (one("jobs_at_once = 1.5"), "jobs_at_once must be a whole number between 1 and 100000"),
        (one("jobs_per_minute = 0"), "jobs_per_minute must be a whole number between 1"),
        (one("jobs_per_minute = -inf"), "or inf for no limit"),
        (one('seconds_per_day = "1"'), "seconds_per_day must be a number"),
        ("[defaults]\ntoken = 1\n" + one(""), "[defaults] has no 'token'"),
        ("[defaults]\nweight = 0\n" + one(""), "[defaults]: weight must be"),
        ("[clients.anna]", "must have one of token and token_sha256"),
        (one(f'token_sha256 = "{sha256(A)}"'), "must have one of token and token_sha256"),
        ('[clients.anna]\ntoken_sha256 = "ab"', "must have 64 hexadecimal digits"),
        ('[clients.anna]\ntoken = "short"', "a token has 16 printable ASCII characters or more"),
        ('[clients.anna]\ntoken = "with a space in it"', "and no spaces"),
        ("[clients.anna]\ntoken = 1234567890123456", "a token has 16"),
        (one("") + one("", "bert"), "anna and bert have the same token"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(path, content, said):
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RequestError) as caught:
        Clients(path)
    line = str(caught.value)
    assert line.startswith(f"--clients {path}: ")
    assert said in line
    assert "\n" not in line
    assert A not in line


def refused(capsys, *options):
    assert main(["serve", "--port", "0", *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_segue_serve_refuses_a_file_that_cannot_be_used(capsys, monkeypatch, tmp_path, path):
    monkeypatch.setenv("SEGUE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("SEGUE_TOKEN", raising=False)
    nowhere = tmp_path / "nowhere.toml"
    assert "it cannot be read (No such file" in refused(capsys, "--clients", str(nowhere))
    monkeypatch.setenv("SEGUE_CLIENTS", str(tmp_path))
    assert "it cannot be read (Is a directory" in refused(capsys)
    both = refused(capsys, "--clients", str(path), "--token", "secret")
    assert "--clients and --token (or SEGUE_TOKEN) both say who may come" in both
    monkeypatch.setenv("SEGUE_TOKEN", "secret")
    assert "drop one" in refused(capsys, "--clients", str(path))
    assert not (tmp_path / "state").exists()
