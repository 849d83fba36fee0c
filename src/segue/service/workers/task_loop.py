"""A worker's end of the channel to the server, and the loop that runs its tasks.

The server sends `{"task": {"id": ..., "kind": ..., ...}}`, and for a task that waits or runs
`{"cancel": id}` and `{"listen": id}`.  The worker sends, each with `"task": id`, `{"begun": true}`,
then progress (see `segue.channel`) and messages of the task's own, and at the end of every task
exactly one of `{"finished": {...}}`, `{"error": "one line", "fault": bool}` and
`{"cancelled": true}`.
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


class TaskChannel:
    """The channel between the server and one task.

    Args:
        name: of the task, which each of its messages says.
        message: that describes the task.
        send: sends a message to the server.

    Attributes:
        name, message: as given.
        listening: set while somebody listens to the task.
    """

    def __init__(self, name: str, message: Message, send: Send) -> None:
        self.name, self.message, self._send = name, message, send
        self._cancelled, self.listening = threading.Event(), threading.Event()

    def send(self, **message: Any) -> None:
        """Send the message with these keys."""
        try:
            self._send(task=self.name, **message)
        except BrokenPipeError:
            os._exit(0)

    def cancel(self) -> None:
        """Have the task stop where it checks."""
        self._cancelled.set()

    def check(self) -> None:
        """Stop here if the task was cancelled.

        Raises:
            TaskCancelledError: it was.
        """
        if self._cancelled.is_set():
            raise TaskCancelledError

    def progress(self) -> ChannelProgress:
        """Return the progress of the task, which stops it where it was cancelled."""
        return ChannelProgress(self.send, self.check)


class ServerChannel:
    """The channel to the server: receives in a thread of its own.

    When the lines end, the server is gone, and the process ends at once, whatever it does.

    Args:
        lines: what the server sends.
        send: sends a message to the server; several threads do.
    """

    def __init__(self, lines: Iterable[bytes], send: Send) -> None:
        self._lines, self._send = lines, send
        self._waiting: queue.Queue[TaskChannel] = queue.Queue()
        self._tasks: dict[str, TaskChannel] = {}
        threading.Thread(target=self._receive, name="channel", daemon=True).start()

    def _receive(self) -> None:
        for line in self._lines:
            message = decode(line) or {}
            if isinstance(task := message.get("task"), dict):
                name = str(task["id"])
                self._tasks[name] = channel = TaskChannel(name, task, self._send)
                self._waiting.put(channel)
            elif (cancelled := self._tasks.get(str(message.get("cancel")))) is not None:
                cancelled.cancel()
            elif (heard := self._tasks.get(str(message.get("listen")))) is not None:
                heard.listening.set()
        os._exit(0)

    def next_task(self) -> TaskChannel:
        """Wait for the next task; several threads may."""
        return self._waiting.get()

    def forget(self, channel: TaskChannel) -> None:
        """Take no more messages for a task that has ended."""
        self._tasks.pop(channel.name, None)


Task = Callable[[Message, TaskChannel], Message]
"""Takes the message that describes the task; returns what it `finished` with."""


def run_tasks(tasks: Mapping[str, Task], channel: ServerChannel, at_once: int = 1) -> None:
    """Run tasks, for as long as the server is there.

    Args:
        tasks: by their kind.
        channel: where they come from, and where their outcomes go.
        at_once: how many may run at the same time.  Each has a thread, which stays for the next
            one: MLX keeps what a thread has computed with for as long as there is the thread.
    """
    for n in range(at_once - 1):
        threading.Thread(target=_run, args=(tasks, channel), name=f"task {n}", daemon=True).start()
    _run(tasks, channel)


def _run(tasks: Mapping[str, Task], channel: ServerChannel) -> None:
    """Run one task after the other."""
    while True:
        task = channel.next_task()
        task.send(begun=True)
        outcome = outcome_of(tasks[task.message["kind"]], task.message, task)
        channel.forget(task)
        task.send(**outcome)


def outcome_of(task: Task, message: Message, channel: TaskChannel) -> Message:
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
