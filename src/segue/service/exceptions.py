"""What goes wrong in the service, for those who raise it; `http.errors` turns it into responses."""

from __future__ import annotations

from ..errors import SegueError


class RefusalError(Exception):
    """A request cannot be done.

    Attributes:
        status: of the HTTP response, 4xx.
        line: what is wrong and what to do, for a musician.
        headers: of the response.
    """

    def __init__(self, status: int, line: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, headers


class BusyError(SegueError):
    """There is no room for another job.

    Attributes:
        seconds: after which it is worth another try.
    """

    def __init__(self, line: str, seconds: float) -> None:
        super().__init__(line)
        self.seconds = seconds


class OverLimitError(SegueError):
    """A client has as much as it may.

    Attributes:
        seconds: after which it may have more.
    """

    def __init__(self, line: str, seconds: float) -> None:
        super().__init__(line)
        self.seconds = seconds


class UnknownModelError(SegueError):
    """A request names a model that is not in the list."""


class TaskError(Exception):
    """A worker's task failed.

    Attributes:
        fault: whether segue itself is at fault, and not the input.
    """

    def __init__(self, line: str, fault: bool = False) -> None:
        super().__init__(line)
        self.fault = fault


class WorkerDiedError(TaskError):
    """The worker ended while it had a task.

    Attributes:
        begun: whether the worker had begun the task; if not, it may have been gone before.
        shared: whether it had other tasks at the same time, one of which may have ended it.
        first: whether this is the first of its tasks that is told.
        lost: whether no task is to blame: the machine that it ran on has vanished, or somebody has
            ended it in an orderly way.
    """

    def __init__(
        self,
        line: str,
        begun: bool = False,
        shared: bool = False,
        first: bool = True,
        lost: bool = False,
    ) -> None:
        super().__init__(line, fault=True)
        self.begun, self.shared, self.first, self.lost = begun, shared, first, lost


class TaskCancelledError(Exception):
    """A worker's task was cancelled: raised in the worker where it stops, and in the server."""
