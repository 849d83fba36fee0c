"""The server's end: starts a worker process, gives it tasks, and ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from ...channel import Message, decode, encode
from ..exceptions import TaskCancelledError, WorkerDiedError
from .interface import OnMessage, RunningTask, ignore
from .task_loop import NO_MEMORY

log = logging.getLogger("segue.service")

_LONGEST_LINE = 1 << 22


class _Task(RunningTask):
    """A task that a process has.

    Attributes:
        process: that has it.
    """

    def __init__(self, process: asyncio.subprocess.Process, on_message: OnMessage) -> None:
        super().__init__(on_message)
        self.process = process


class Worker:
    """A worker process, started when there is something to do, and again when it died.

    See `WorkerClient`, which it fulfils.

    Args:
        role: `player` (generates), `reader` (decodes uploads) or `downloader`: its name in the log.
        settings: of the role, see `segue.service.workers.__main__`.
        at_once: tasks that it runs at the same time; further ones wait.
        environment: variables of the process, on top of this one's own.
        number: of the worker, where a pool has several: for the log.

    Attributes:
        environment: as given.
    """

    def __init__(
        self,
        role: str,
        settings: Message,
        at_once: int = 1,
        environment: Mapping[str, str] | None = None,
        number: int | None = None,
    ) -> None:
        self.role = role
        self._named = {"role": role} if number is None else {"role": role, "worker": number}
        self.crashes = 0
        self.cannot_start: str | None = None
        self.on_end: Callable[[], None] = lambda: None
        self.environment = dict(environment or {})
        self._command = (
            sys.executable,
            "-P",
            "-m",
            "segue.service.workers",
            json.dumps({"role": role, "at_once": at_once, **settings}),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[None] | None = None
        self._messages: asyncio.Task[None] | None = None
        self._room, self._starting = asyncio.Semaphore(at_once), asyncio.Lock()
        self._tasks: dict[str, _Task] = {}
        self._numbers = count(1)

    @property
    def pid(self) -> int | None:
        """The process's number, or None while none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def alive(self) -> bool:
        """See `WorkerClient`."""
        return self.pid is not None

    @property
    def available(self) -> bool:
        """See `WorkerClient`: a process starts at once."""
        return True

    async def start(self) -> None:
        """See `WorkerClient`: its first task does."""

    async def run(self, task: Message, on_message: OnMessage = ignore) -> Message:
        """See `WorkerClient`."""
        async with self._room:
            try:
                try:
                    return await self._give(task, on_message)
                except WorkerDiedError as died:
                    if died.begun:
                        raise
                return await self._give(task, on_message)
            except asyncio.CancelledError:
                await self.stop()  # nobody would read the rest
                raise
            except OSError as error:
                self.cannot_start = error.strerror
                raise WorkerDiedError(
                    f"segue could not start its {self.role} ({error.strerror})"
                ) from None

    async def _give(self, task: Message, on_message: OnMessage) -> Message:
        name = str(task.get("id", next(self._numbers)))
        async with self._starting:
            process = await self._running()
        self._tasks[name] = running = _Task(process, on_message)
        try:
            self.send(task={**task, "id": name})
            return await running.outcome
        finally:
            del self._tasks[name]
            running.over()

    async def _receive(self, process: asyncio.subprocess.Process) -> None:
        """Hand messages to the tasks that they are of, until the process ends."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while (message := await _next_message(process.stdout)) is not None:
            if (task := self._tasks.get(str(message.pop("task", None)))) is not None:
                task.receive(message)
        with suppress(TimeoutError):  # it has closed its end, so it is ending
            await asyncio.wait_for(process.wait(), 1)
        died = self._process is process  # else it has been stopped
        if died:
            await self.stop()
        tasks = [task for task in self._tasks.values() if task.process is process]
        ended = any(task.cancelling is not None for task in tasks)
        self.crashes += died and bool(tasks)
        if died and tasks and not ended:
            log.error("worker died", extra={**self._named, "code": process.returncode})
        for task in tasks:
            if task.cancelling is not None:
                task.fail(TaskCancelledError())
            else:
                # Where it was ended for another's sake, this one has not failed: it runs again.
                begun = task.begun and died and not ended
                code, first = process.returncode or 0, task is tasks[0]
                # No task ends it by SIGTERM: a computer that shuts down does, or whoever stops all
                # processes of the service at once.
                lost = code == -signal.SIGTERM
                task.fail(WorkerDiedError(_reason(code), begun, len(tasks) > 1, first, lost))

    def cancel(self, name: str) -> None:
        """Stop a task that runs; if it does not stop in time, end the process."""
        task = self._tasks.get(name)
        if task is not None and task.cancelling is None:
            self.send(cancel=name)
            task.cancel_after(partial(_kill, task.process))

    def listen(self, name: str) -> None:
        """Let a task that runs write a preview."""
        if name in self._tasks:
            self.send(listen=name)

    def send(self, **message: Any) -> None:
        """Send the message with these keys, if a process runs."""
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(encode(message).encode())

    async def stop(self) -> None:
        """End the process; the next task starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        self.on_end()
        readers = {self._errors, self._messages} - {None, asyncio.current_task()}
        _kill(process)
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
        if readers:
            await asyncio.wait([reader for reader in readers if reader is not None], timeout=1)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            await self.stop()  # it died while it had nothing to do
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                env={**os.environ, **self.environment},
                # Ctrl-C in the terminal is for the server alone.
                start_new_session=True,
            )
            self.cannot_start = None
            log.info("worker started", extra={**self._named, "pid": self._process.pid})
            self._errors = asyncio.create_task(self._log_errors(self._process))
            self._messages = asyncio.create_task(self._receive(self._process))
        return self._process

    async def _log_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # no line is as long as that; the rest may be read
                continue
            if not line:
                return
            if text := line.decode(errors="replace").rstrip():
                log.warning("worker: %s", text, extra=self._named)


async def _next_message(stream: asyncio.StreamReader) -> Message | None:
    """The next message; None if the stream ends, or holds what no worker sends."""
    try:
        line = await stream.readline()
    except ValueError:  # longer than any message
        return None
    return decode(line) if line.endswith(b"\n") else None


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # Not by its own `kill`, which may take the exit code away from who waits for it.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return f"the music was stopped: {NO_MEMORY}"
    if code < 0:
        known = -code in set(signal.Signals)
        name = signal.Signals(-code).name if known else f"signal {-code}"
        return f"segue's worker was ended by {name}; try again"
    return f"segue's worker ended by itself ({code}); try again, its log says more"
