"""Clients that send slowly, do not read, or never go: each ends, and its connection with it."""

import socket
import time
from contextlib import suppress

import pytest

from segue.service.settings import Limits, Settings
from tests.service.in_process import SECONDS, InProcess, answer, line_of

TOKEN = "a-secret-of-the-owner"
HASTY = Limits(
    head_seconds=1.5,
    body_grace_seconds=0.5,
    drain_seconds=0.3,
    linger_seconds=1.0,
    send_seconds=0.5,
    drain_bytes=8 << 20,
)
OWN = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
LONG = "Content-Length: 1000\r\n\r\n"

SLOW = {
    "nothing at all": "",
    "half a head": "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nX: ",
    "a body": f"POST /api/jobs HTTP/1.1\r\n{OWN}{LONG}",
    "a small body": f"POST /api/juce/retry_music HTTP/1.1\r\n{OWN}{LONG}",
    "a body that is to be refused": f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n{LONG}",
    "a body without a token": "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n"
    f"Content-Type: application/json\r\n{LONG}",
    "a body for nobody": f"POST /api/nothing HTTP/1.1\r\n{OWN}{LONG}",
    "a body of a GET": f"GET /health HTTP/1.1\r\n{OWN}{LONG}",
    "a body that was announced": f"POST /api/jobs HTTP/1.1\r\n{OWN}Expect: 100-continue\r\n{LONG}",
    "a body behind no HTTP": f"POST /api/jobs HTTP/1.1\r\n{LONG}",
}
AFTERWARDS = {
    "half a head": 408,
    "a body": 408,
    "a small body": 408,
    "a body that is to be refused": 415,
    "a body without a token": 401,
    "a body for nobody": 404,
    "a body of a GET": 413,
    "a body that was announced": 408,
    "a body behind no HTTP": 400,
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    settings = Settings(state=tmp_path_factory.mktemp("state"), token=TOKEN, limits=HASTY)
    with InProcess(settings) as running:
        yield running


def begun(running, name):
    connection = running.connect()
    connection.sendall(SLOW[name].encode())
    return connection


def trickle(running, connections):
    """Send a byte on each now and then until the service has let go of all; what they received."""
    received = dict.fromkeys(connections, b"")
    end = time.monotonic() + SECONDS
    for connection in connections:
        connection.setblocking(False)
    # At first the service may not have taken them yet.
    while running.connections() or not all(received.values()):
        assert time.monotonic() < end, f"{running.connections()} connections are still open"
        for connection in connections:
            with suppress(OSError):  # nothing there, or closed
                received[connection] += connection.recv(1 << 16)
            with suppress(OSError):
                connection.send(b"x")
        time.sleep(0.02)
    return received


def test_sixty_that_send_byte_by_byte_are_refused_and_closed(running):
    names = [name for name in SLOW if name != "nothing at all"] * 7
    connections = [begun(running, name) for name in names]
    received = trickle(running, connections)
    for name, connection in zip(names, connections, strict=True):
        got = received[connection].removeprefix(CONTINUE)
        assert got.startswith(b"HTTP/1.1 %d " % AFTERWARDS[name]), (name, got[:300])
        assert line_of(got.partition(b"\r\n\r\n")[2])
        connection.close()


def test_a_client_that_falls_silent_is_refused_and_closed(running):
    connections = {name: begun(running, name) for name in SLOW}
    assert connections["nothing at all"].recv(1) == b""
    assert connections["a body that was announced"].recv(len(CONTINUE)) == CONTINUE
    for name, status in AFTERWARDS.items():
        got, headers, body = answer(connections[name])
        assert (got, headers["connection"]) == (status, "close"), name
        assert line_of(body)
    running.let_go()  # though none of them was closed from here
    for connection in connections.values():
        connection.close()


def test_chunks_without_end_are_not_read_for_ever(running):
    chunk = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
    head = "POST /api/nothing HTTP/1.1\r\n" + OWN + "Transfer-Encoding: chunked\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):
            connection.sendall(chunk * 100)  # many times what is drained
    running.let_go()


def test_who_does_not_read_is_let_go(running, monkeypatch):
    # More than the system keeps for a connection, and asked for again and again.
    monkeypatch.setattr("segue.service.http.system.docs_page", lambda _: "x" * (16 << 20))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(SECONDS)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(f"GET /docs HTTP/1.1\r\n{OWN}\r\n".encode())
        assert connection.recv(1) == b"H"  # and no more
        running.let_go()


def test_who_has_been_answered_and_goes_nowhere_is_let_go(running):
    sent = f"POST /api/nothing HTTP/1.1\r\n{OWN}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    with running.connect() as connection:
        connection.sendall(sent.encode())
        assert answer(connection)[0] == 404
        running.let_go()


def test_the_service_stops_though_some_do_not_go(tmp_path):
    with InProcess(Settings(state=tmp_path)) as running:
        left = [begun(running, name) for name in ("half a head", "a body behind no HTTP")]
        assert answer(left[1])[0] == 400
    for connection in left:
        connection.close()
