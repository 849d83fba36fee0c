"""Channels to a server that only writes down what it is sent."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from segue.channel import Message
from segue.service.workers.task_loop import ServerChannel, TaskChannel


def recorded(sent: list[Message] | None = None) -> TaskChannel:
    """Return a task's channel; `sent` gets every message that the task sends."""
    record = [] if sent is None else sent

    def send(**message: object) -> None:
        assert message.pop("task") == "a"
        record.append(message)

    return TaskChannel("a", {}, send)


def received(lines: Iterator[bytes], sent: list[Message] | None = None) -> ServerChannel:
    """Return a channel to a server that sends `lines`; they must not end.

    Args:
        lines: each a message.
        sent: gets every message that is sent.
    """
    record: list[Message] = [] if sent is None else sent
    return ServerChannel(lines, lambda **message: record.append(message))


def lines_of() -> tuple[queue.Queue[bytes], Iterator[bytes]]:
    """Return a queue for lines, and the iterator over them, which waits for the next."""
    lines: queue.Queue[bytes] = queue.Queue()
    return lines, iter(lines.get, None)
