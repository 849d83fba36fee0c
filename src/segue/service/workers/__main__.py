"""A worker process: tasks in as lines of JSON, news and results out as lines of JSON.

    python -P -m segue.service.workers '{"role": "player", ...}'

On standard input come `{"task": {...}}`, and for the task that runs `{"cancel": true}` and
`{"listen": true}`.  On standard output go `{"begun": true}`, news, and at the end of every task
exactly one of `{"finished": {...}}`, `{"error": "one line", "fault": bool}` and
`{"cancelled": true}`.  When standard input ends, the server is gone, and the worker ends at once,
whatever it does.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import SegueError
from ...progress import Advance, Progress

NO_MEMORY = (
    "this machine ran out of memory; choose a smaller model, another quantization_mode such as q4, "
    "or fewer variations"
)

NO_DISK = "the disk of this computer is full, or cannot be used; make room and try again"

_SECONDS_BETWEEN = 0.1
"""Nobody sees more progress than that."""

Message = dict[str, Any]
Task = Callable[[Message, "Line"], Message]


class Cancelled(Exception):  # noqa: N818 - not an error
    """Nobody wants the task's result any more."""


class Line:
    """The worker's end of the line to the server.

    Attributes:
        listening: set when somebody listens to the running task.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._tasks: queue.Queue[Message] = queue.Queue()
        self._cancelled = threading.Event()
        self.listening = threading.Event()
        threading.Thread(target=self._receive, name="line", daemon=True).start()

    def _receive(self) -> None:
        for line in self._incoming:
            message = json.loads(line)
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
        """Wait for work."""
        return self._tasks.get()

    def tell(self, **news: Any) -> None:
        """Send a line."""
        try:
            self._outgoing.write(json.dumps(news).encode() + b"\n")
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(0)

    def check(self) -> None:
        """Stop here if the task was cancelled.

        Raises:
            Cancelled: it was.
        """
        if self._cancelled.is_set():
            raise Cancelled


class Told(Progress):
    """Stages as news; between two of them a cancelled task stops."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress.stage`."""
        length = total
        last = 0.0

        def advance(done: int, total: int | None = None) -> None:
            nonlocal length, last
            self._line.check()
            length = length if total is None else total
            now = time.monotonic()
            if done == length or now - last >= _SECONDS_BETWEEN:
                last = now
                self._line.tell(stage=name, done=done, total=length, unit=unit)

        self._line.check()
        self._line.tell(stage=name, done=0, total=length, unit=unit)
        yield advance


def serve(tasks: dict[str, Task], line: Line) -> None:
    """Do one task after the other."""
    while True:
        task = line.next_task()
        line.tell(begun=True)
        try:
            outcome: Message = {"finished": tasks[task["kind"]](task, line)}
        except Cancelled:
            outcome = {"cancelled": True}
        except SegueError as error:
            outcome = {"error": str(error), "fault": False}
        except MemoryError:
            outcome = {"error": NO_MEMORY, "fault": False}
        except OSError as error:
            traceback.print_exc()
            outcome = {"error": _of_system(error), "fault": True}
        except Exception as error:
            traceback.print_exc()
            said = f"something went wrong inside segue ({type(error).__name__}); its log says more"
            outcome = {"error": said, "fault": True}
        line.tell(**outcome)


def _of_system(error: OSError) -> str:
    if error.filename is not None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"segue may not use {os.fsdecode(error.filename)} ({error.strerror})"
    return NO_DISK


def _tasks(settings: Message) -> dict[str, Task]:
    """What a worker of this role can do; each role imports what it needs and no more."""
    if settings["role"] == "reader":
        from .decode_audio import Reader

        return {"read": Reader(settings)}
    if settings["role"] == "downloader":
        from .download import fetch

        return {"fetch": fetch}
    from .generate import Player

    player = Player(settings)
    return {"play": player.play, "warm": player.warm}


def main() -> None:
    """See the module."""
    # Whatever a library prints must not be taken for news.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(OSError):  # when memory runs out, it is a worker that the system shall end
        Path("/proc/self/oom_score_adj").write_text("500")
    settings = json.loads(sys.argv[1])
    line = Line(sys.stdin.buffer, outgoing)
    serve(_tasks(settings), line)


if __name__ == "__main__":
    main()
