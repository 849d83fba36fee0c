"""Messages between processes: JSON objects, each on a line of its own, and progress among them.

A stage of a `Progress` is sent as `{"stage": name, "done": n, "total": n or null, "unit": unit}`:
when it begins, with `"begin": true`, then as it advances; and as `{"end": name}` when it ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from .progress import Advance, Progress

SECONDS_BETWEEN_UPDATES = 0.1
"""Nobody sees more, and sending and reading it would take time from the work."""

Message = dict[str, Any]


def encode(message: Message) -> str:
    """Return a message as a line, with its end."""
    return json.dumps(message) + "\n"


def decode(line: str | bytes) -> Message | None:
    """Return the message that a line holds, or None if it holds none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class Send(Protocol):
    """Sends one message."""

    def __call__(self, **message: Any) -> None:
        """Send the message with these keys."""


class _TextStream(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Sender:
    """Writes messages to a text stream, each at once; several threads may.

    Args:
        stream: for instance standard output, or a pipe.
    """

    def __init__(self, stream: _TextStream) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, **message: Any) -> None:
        """Send the message with these keys.

        Raises:
            BrokenPipeError: the other process is gone.
        """
        line = encode(message)
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


class ChannelProgress(Progress):
    """Sends stages to another process, as often as somebody can see.

    Args:
        send: sends a message.
        check: called when a stage begins and whenever it advances; may raise, to stop the work.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        send: Send,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._check, self._clock = send, check, clock

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress.stage`."""
        length = total
        sent_at: float | None = None

        def advance(done: int, total: int | None = None) -> None:
            nonlocal length, sent_at
            self._check()
            changed = total is not None and total != length
            length = length if total is None else total
            now = self._clock()
            due = sent_at is None or now - sent_at >= SECONDS_BETWEEN_UPDATES
            if due or changed or done == length:
                sent_at = now
                self._send(stage=name, done=done, total=length, unit=unit)

        self._check()
        self._send(stage=name, done=0, total=total, unit=unit, begin=True)
        try:
            yield advance
        finally:
            self._send(end=name)


def stdout_progress() -> ChannelProgress:
    """Return a progress whose stages go to standard output.

    The process that started this one shows them with `replay`.  Where that one is gone, a
    `BrokenPipeError` ends this one too: nobody waits for it any more.
    """
    return ChannelProgress(Sender(sys.stdout))


def replay(lines: Iterable[str | bytes], progress: Progress) -> None:
    """Show the stages that another process's `ChannelProgress` sent, until its lines end.

    Args:
        lines: all that the other process wrote; a line that is no message is skipped.
        progress: where the stages are shown; those that never ended end with the lines.
    """
    shown: list[tuple[str, ExitStack, Advance]] = []
    try:
        for line in lines:
            message = decode(line) or {}
            if message.get("begin"):
                stack = ExitStack()
                name, total, unit = message["stage"], message["total"], message["unit"]
                advance = stack.enter_context(progress.stage(name, total, unit))
                shown.append((name, stack, advance))
            elif shown and message.get("stage") == shown[-1][0]:
                shown[-1][2](message["done"], message["total"])
            elif shown and message.get("end") == shown[-1][0]:
                shown.pop()[1].close()
    finally:
        while shown:
            shown.pop()[1].close()
