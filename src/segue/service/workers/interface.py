"""What a worker is to the service, whether it is a child process or an actor on another machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ...channel import Message
from ..exceptions import TaskCancelledError, TaskError

SECONDS_TO_CANCEL = 5.0
"""How long a worker may take to stop a cancelled task before it is ended."""

OnMessage = Callable[[Message], None]


def ignore(message: Message) -> None:
    """Take a message and do nothing with it."""


class WorkerClient(Protocol):
    """The service's end of a worker, which is started when there is something to do.

    Attributes:
        crashes: how often it ended while it had a task.
        cannot_start: why the last start failed, if it did.
        on_end: called whenever the worker has ended, however: what it had loaded is gone.
    """

    crashes: int
    cannot_start: str | None
    on_end: Callable[[], None]

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended."""

    @property
    def available(self) -> bool:
        """Whether a task would begin soon: it is there, or can be within a moment."""

    async def start(self) -> None:
        """Start it, if it is not there, and wait until it is available."""

    async def run(self, task: Message, on_message: OnMessage = ignore) -> Message:
        """Run a task; where the worker has as many as it takes, after those that came before it.

        Args:
            task: `kind` and what the task of that kind takes, see `segue.service.workers`; and
                `id`, by which it can be cancelled.
            on_message: called with every message that the task sends before its last.

        Returns:
            What the task finished with.

        Raises:
            TaskError: it failed, with one line for the user.
            WorkerDiedError: the worker ended.
            TaskCancelledError: `cancel` was called.
        """

    def cancel(self, name: str) -> None:
        """Stop a task that runs; if it does not stop in time, end the worker."""

    def listen(self, name: str) -> None:
        """Let a task that runs write a preview."""

    async def stop(self) -> None:
        """End the worker; the next task starts another."""


class RunningTask:
    """A task that a worker has.

    Args:
        on_message: see `WorkerClient.run`.

    Attributes:
        outcome: what it finished with.
        begun: whether the worker has said that it begins with it.
        cancelling: ends the worker, where the task does not heed that it was cancelled.
    """

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self.outcome: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.begun = False
        self.cancelling: asyncio.TimerHandle | None = None

    def receive(self, message: Message) -> None:
        """Take a message of the task's, see `segue.service.workers.task_loop`."""
        if "finished" in message:
            if not self.outcome.done():
                self.outcome.set_result(message["finished"])
        elif "cancelled" in message:
            self.fail(TaskCancelledError())
        elif "error" in message:
            self.fail(TaskError(message["error"], message["fault"]))
        elif "begun" in message:
            self.begun = True
        else:
            try:
                self._on_message(message)
            except Exception as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the task."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def cancel_after(self, end_worker: Callable[[], None]) -> None:
        """Call `end_worker` unless the task has ended in time."""
        loop = asyncio.get_running_loop()
        self.cancelling = loop.call_later(SECONDS_TO_CANCEL, end_worker)

    def over(self) -> None:
        """Let nothing happen any more for the task's sake."""
        if self.cancelling is not None:
            self.cancelling.cancel()
