"""A worker's end of the channel to the server, and the loop that runs its tasks.

The server sends `{"task": {"kind": ..., ...}}`, and for the task that runs `{"cancel": true}` and
`{"listen": true}`.  The worker sends `{"begun": true}`, then progress (see `segue.channel`) and
messages of the task's own, and at the end of every task exactly one of `{"finished": {...}}`,
`{"error": "one line", "fault": bool}` and `{"cancelled": true}`.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...channel import ChannelProgress, Message, Send, decode
from ...errors import SegueError
from ..exceptions import TaskCancelledError

NO_MEMORY = (
    "this machine ran out of memory; choose a smaller model, another quantization_mode such as q4, "
    "or fewer variations"
)

NO_DISK = "the disk of this computer is full, or cannot be used; make room and try again"


class ServerChannel:
    """The channel to the server: receives in a thread of its own.

    When the lines end, the server is gone, and the process ends at once, whatever it does.

    Args:
        lines: what the server sends.
        send: sends a message to the server.

    Attributes:
        listening: set while somebody listens to the running task.
    """

    def __init__(self, lines: Iterable[bytes], send: Send) -> None:
        self._lines, self._send = lines, send
        self._tasks: queue.Queue[Message] = queue.Queue()
        self._cancelled, self.listening = threading.Event(), threading.Event()
        threading.Thread(target=self._receive, name="channel", daemon=True).start()

    def _receive(self) -> None:
        for line in self._lines:
            message = decode(line) or {}
            if "task" in message:
                self._cancelled.clear()
                self.listening.clear()
                self._tasks.put(message["task"])
            elif message.get("cancel"):
                self._cancelled.set()
            elif message.get("listen"):
                self.listening.set()
        os._exit(0)

    def next_task(self) -> Message:
        """Wait for the next task."""
        return self._tasks.get()

    def send(self, **message: Any) -> None:
        """Send the message with these keys."""
        try:
            self._send(**message)
        except BrokenPipeError:
            os._exit(0)

    def check(self) -> None:
        """Stop here if the task was cancelled.

        Raises:
            TaskCancelledError: it was.
        """
        if self._cancelled.is_set():
            raise TaskCancelledError

    def progress(self) -> ChannelProgress:
        """Return the progress of the running task, which stops it where it was cancelled."""
        return ChannelProgress(self.send, self.check)


Task = Callable[[Message, ServerChannel], Message]
"""Takes the message that describes the task; returns what it `finished` with."""


def run_tasks(tasks: Mapping[str, Task], channel: ServerChannel) -> None:
    """Run one task after the other, for as long as the server is there.

    Args:
        tasks: by their kind.
        channel: where they come from, and where their outcomes go.
    """
    while True:
        message = channel.next_task()
        channel.send(begun=True)
        channel.send(**outcome_of(tasks[message["kind"]], message, channel))


def outcome_of(task: Task, message: Message, channel: ServerChannel) -> Message:
    """Run a task; return the one message that ends it.

    Args:
        task: what is to be done.
        message: see `Task`.
        channel: for the messages before the last.
    """
    try:
        return {"finished": task(message, channel)}
    except TaskCancelledError:
        return {"cancelled": True}
    except SegueError as error:
        return {"error": str(error), "fault": False}
    except MemoryError:
        return {"error": NO_MEMORY, "fault": False}
    except OSError as error:
        traceback.print_exc()
        return {"error": _line_for(error), "fault": True}
    except Exception as error:
        traceback.print_exc()
        line = f"something went wrong inside segue ({type(error).__name__}); its log says more"
        return {"error": line, "fault": True}


def _line_for(error: OSError) -> str:
    if error.filename is not None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"segue may not use {os.fsdecode(error.filename)} ({error.strerror})"
    return NO_DISK
