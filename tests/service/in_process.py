"""A service in this process: all of it but a model, on a free port of loopback.

with InProcess(Settings(state=tmp_path, limits=Limits(head_seconds=0.2))) as running:
    running.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")

Quicker to start than `segue serve`, and its limits can be such that nobody waits.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace

from segue.service.app import make_app
from segue.service.http.server import make_server
from segue.service.jobs.store import Store
from segue.service.settings import Settings
from segue.service.workers.pool import Pool

SECONDS = 60.0
"""After which a test has failed, and does not hang."""


class InProcess:
    """A service that runs while it is open.

    Args:
        settings: of the service; it has no default model, so nothing is loaded.
        pool: the workers that generate; None makes those of the settings.

    Attributes:
        service: the parts of it.
        port: that it listens on.
    """

    def __init__(self, settings: Settings, pool: Pool | None = None) -> None:
        settings = replace(settings, default_model="nobody/nothing", port=0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        app, self.service = make_app(
            settings, Store(settings.state, results=settings.results), pool
        )
        self._server = make_server(app, self.service)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))

    def __enter__(self) -> InProcess:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "it did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()

    def connections(self) -> int:
        """How many it holds open."""
        return len(self._server.server_state.connections)

    def let_go(self) -> None:
        """Wait until it holds none."""
        end = time.monotonic() + SECONDS
        while self.connections():
            assert time.monotonic() < end, f"{self.connections()} connections are still open"
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def send(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send all of a request, and only then read; see `answer`."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return answer(connection)


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (in small letters) and body of an answer that must arrive whole.

    Where it says that the connection ends, it is read to its end: a reset is an error.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    length = int(headers["content-length"])
    while len(body) < length:
        body += _some(connection)
    assert len(body) == length
    if headers.get("connection") == "close":
        assert connection.recv(1) == b""
    return int(first.split()[1]), headers, body


def line_of(body: bytes) -> str:
    """The line of a refusal."""
    content = json.loads(body)
    assert set(content) == {"success", "error"}
    assert content["success"] is False
    assert "\n" not in content["error"]
    return content["error"]


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    assert data, "the connection ended in the middle of an answer"
    return data
