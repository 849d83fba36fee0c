"""Refusals arrive whole, whatever the client sends along and however it ends the connection."""

import errno
import socket
from contextlib import nullcontext

import pytest

from segue.service.settings import Limits, Settings
from tests.service.in_process import InProcess, answer, line_of

BODY = b"x" * 4_000_000
"""More than the system keeps for either side."""

TOKEN = "a-secret-of-the-owner"
JSON = "Content-Type: application/json\r\n"
OWN = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"

REFUSED = {
    "another name": ("POST /api/jobs", "Host: evil.example\r\n" + JSON, 403),
    "another page": ("POST /api/jobs", OWN + JSON + "Origin: http://evil.example\r\n", 403),
    "a form": ("POST /api/jobs", OWN, 415),
    "no token": ("POST /api/jobs", "Host: localhost\r\n" + JSON, 401),
    "no such address": ("POST /api/nothing", OWN + JSON, 404),
    "no such method": ("PUT /api/jobs", OWN + JSON, 405),
    "DELETE": ("DELETE /api/jobs/nothing", OWN, 404),
    "GET": ("GET /api/jobs/nothing", OWN, 404),
    "GET of a stream": ("GET /api/jobs/nothing/stream", OWN, 404),
    "too large": ("POST /api/juce/retry_music", OWN + JSON, 413),
    "a full queue": ("POST /api/jobs", OWN + JSON, 429),
    "no Host": ("POST /api/jobs", JSON, 400),
    "two lengths": ("POST /api/jobs", OWN + JSON + "Content-Length: 5\r\n", 400),
    "no header": ("POST /api/jobs", OWN + JSON + "this is no header\r\n", 400),
    "a head without end": ("POST /api/jobs", OWN + "X: " + "x" * 600_000 + "\r\n", 431),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    settings = Settings(
        state=tmp_path_factory.mktemp("state"), token=TOKEN, limits=Limits(waiting=0)
    )
    with InProcess(settings) as running:
        yield running


def head(line, headers, length=4_000_000, connection="close"):
    end = f"Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    return f"{line} HTTP/1.1\r\n{headers}{end}".encode()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_arrives_though_four_megabytes_come_along(running, name, connection):
    line, headers, status = REFUSED[name]
    for _ in range(4):
        got, _, body = running.send(head(line, headers, connection=connection), BODY)
        assert got == status
        assert line_of(body)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_full_disk_is_reported_though_the_body_was_not_read(running, monkeypatch, connection):
    def full(client):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running.service.jobs.admission, "reserve", full)
    got, _, body = running.send(head("POST /api/jobs", OWN + JSON, connection=connection), BODY)
    assert got == 507
    assert "disk of this computer is full" in line_of(body)


@pytest.mark.parametrize("name", ["a form", "no token", "no such address", "a full queue"])
def test_a_chunked_body_is_read_to_its_end_too(running, name):
    line, headers, status = REFUSED[name]
    sent = f"{line} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = b"%x\r\n" % len(BODY) + BODY + b"\r\n"
    got, _, body = running.send(sent.encode(), chunk, b"0\r\n\r\n")
    assert got == status
    assert line_of(body)


def test_a_connection_goes_on_behind_a_refusal(running):
    with running.connect() as connection:
        for name in ("another name", "a form", "no token", "no such address", "too large"):
            line, headers, status = REFUSED[name]
            connection.sendall(head(line, headers, connection="keep-alive") + BODY)
            got, fields, _ = answer(connection)
            assert got == status
            assert "connection" not in fields
        connection.sendall(head("GET /health", OWN, 0))
        assert answer(connection)[0] == 200


@pytest.mark.parametrize("name", ["a form", "no token", "no such address", "too large"])
def test_a_client_that_expects_100_continue_is_refused_before_it_sends(running, name):
    line, headers, status = REFUSED[name]
    with running.connect() as connection:
        connection.sendall(head(line, headers + "Expect: 100-continue\r\n", connection="any"))
        got, fields, body = answer(connection)  # and no "100 Continue" before it
        assert got == status
        assert line_of(body)
        assert fields["connection"] == "close"


def test_who_asks_and_sends_nevertheless_reads_the_answer_too(running):
    line, headers, status = REFUSED["no token"]
    asked = headers + "Expect: 100-continue\r\n"
    assert running.send(head(line, asked), BODY)[0] == status


def test_a_body_that_is_read_in_part_is_read_to_its_end(running):
    chunks = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
    sent = f"POST /api/juce/retry_music HTTP/1.1\r\n{OWN}{JSON}Transfer-Encoding: chunked\r\n\r\n"
    got, _, body = running.send(sent.encode(), chunks)
    assert got == 413
    assert "larger than the 1 MB" in line_of(body)


def test_more_than_was_announced_costs_no_response(running):
    sent = head("POST /api/jobs", OWN + JSON, length=2)
    got, _, _ = running.send(sent, b"{}", BODY)
    assert got == 429


def test_chunks_that_are_none_are_refused_in_the_middle_of_a_body(running, monkeypatch):
    monkeypatch.setattr(running.service.jobs.admission, "reserve", nullcontext)
    sent = f"POST /api/jobs HTTP/1.1\r\n{OWN}{JSON}Transfer-Encoding: chunked\r\n\r\n"
    got, _, body = running.send(sent.encode(), b"2\r\n{}\r\n", b"no number\r\n", BODY)
    assert got == 400
    assert "not valid HTTP" in line_of(body)


@pytest.mark.parametrize("cut", [20, -10])
def test_a_client_that_stops_in_the_middle_is_refused(running, monkeypatch, cut):
    monkeypatch.setattr(running.service.jobs.admission, "reserve", nullcontext)
    sent = head("POST /api/jobs", OWN + JSON, length=20, connection="keep-alive") + b"x" * 20
    with running.connect() as connection:
        connection.sendall(sent[:cut])
        connection.shutdown(socket.SHUT_WR)
        got, _, body = answer(connection)
    assert got == 400
    assert "did not arrive whole" in line_of(body)


def test_a_refusal_names_the_port_that_is_listened_on(running):
    _, _, body = running.send(head("GET /", "Host: evil.example\r\n", 0))
    assert line_of(body).endswith(f"open http://localhost:{running.port}")


def test_a_wrong_token_and_none_and_one_of_another_scheme_are_told_apart(running):
    def refused(given):
        sent = "Host: localhost\r\n" + (f"Authorization: {given}\r\n" if given else "")
        status, headers, body = running.send(head("GET /api/models", sent, 0))
        assert status == 401
        return line_of(body), headers["www-authenticate"]

    assert refused(None) == (
        "this service wants a token; it is what segue serve was started with",
        "Bearer",
    )
    for given in (f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer  "):
        assert refused(given) == (
            "the token must be sent as 'Authorization: Bearer TOKEN'",
            "Bearer",
        )
    assert refused(f"Bearer {TOKEN[:-1]}") == (
        "the token is wrong; it is what segue serve was started with",
        'Bearer error="invalid_token"',
    )


def test_a_token_may_have_any_letters(tmp_path):
    with InProcess(Settings(state=tmp_path, token="clé-à-moi")) as running:
        for given, status in (("clé-à-moi", 200), ("clé-à-toi", 401)):
            sent = f"Host: localhost\r\nAuthorization: Bearer {given}\r\n"
            assert running.send(head("GET /api/models", sent, 0))[0] == status


@pytest.mark.parametrize(
    ("host", "connected", "address"),
    [
        ("127.0.0.1", "127.0.0.1", "http://localhost:9000"),
        ("::1", "::1", "http://localhost:9000"),
        ("0.0.0.0", "192.168.0.7", "http://192.168.0.7:9000"),
        ("::", "fe80::1", "http://[fe80::1]:9000"),
        ("studio.example", None, "http://studio.example:9000"),
    ],
)
def test_an_address_is_one_that_a_browser_takes(tmp_path, host, connected, address):
    assert Settings(state=tmp_path, host=host).address(9000, connected) == address
