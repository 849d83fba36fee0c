"""Channels to a server that only writes down what it is sent."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from segue.channel import Message
from segue.service.workers.task_loop import ServerChannel


def recorded(sent: list[Message] | None = None, lines: Iterator[bytes] | None = None):
    """Return a channel.

    Args:
        sent: gets every message that is sent.
        lines: what the server sends; without, it sends nothing, and does not end.
    """
    record = [] if sent is None else sent
    silence: Iterator[bytes] = iter(queue.Queue().get, None)

    def send(**message: object) -> None:
        record.append(message)

    return ServerChannel(silence if lines is None else lines, send)
