"""The server's end: starts a worker process, gives it tasks, and ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...channel import Message, decode, encode
from ..exceptions import TaskCancelledError, TaskError, WorkerDiedError
from .task_loop import NO_MEMORY

log = logging.getLogger("segue.service")

SECONDS_TO_CANCEL = 5.0
"""How long a worker may take to stop a cancelled task before its process is ended."""

_LONGEST_LINE = 1 << 22

OnMessage = Callable[[Message], None]


class Worker:
    """A worker process, started when there is something to do, and again when it died.

    Args:
        role: `player` (generates), `reader` (decodes uploads) or `downloader`: its name in the log.
        settings: of the role, see `segue.service.workers.__main__`.

    Attributes:
        crashes: how often it ended while it had a task.
        cannot_start: why the last start failed, if it did.
    """

    def __init__(self, role: str, settings: Message) -> None:
        self.role = role
        self.crashes = 0
        self.cannot_start: str | None = None
        self._command = (
            sys.executable,
            "-P",
            "-m",
            "segue.service.workers",
            json.dumps({"role": role, **settings}),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._busy = False
        self._cancelling: asyncio.TimerHandle | None = None
        self._cancelled = False

    @property
    def pid(self) -> int | None:
        """The process's number, or None while none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def run(self, task: Message, on_message: OnMessage = lambda message: None) -> Message:
        """Run a task, after those that came before it.

        Args:
            task: `kind` and what the task of that kind takes, see `segue.service.workers`.
            on_message: called with every message that the task sends before its last.

        Returns:
            What the task finished with.

        Raises:
            TaskError: it failed, with one line for the user.
            WorkerDiedError: the process ended.
            TaskCancelledError: `cancel` was called.
        """
        async with self._turn:
            self._cancelled = False
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
            finally:
                self._busy = False
                if self._cancelling is not None:
                    self._cancelling.cancel()
                    self._cancelling = None

    async def _give(self, task: Message, on_message: OnMessage) -> Message:
        process = await self._running()
        self._busy = True
        self.send(task=task)
        return await self._outcome(process, on_message)

    async def _outcome(self, process: asyncio.subprocess.Process, on_message: OnMessage) -> Message:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        begun = False
        while (message := await _next_message(process.stdout)) is not None:
            if "finished" in message:
                finished: Message = message["finished"]
                return finished
            if "cancelled" in message:
                raise TaskCancelledError
            if "error" in message:
                raise TaskError(message["error"], message["fault"])
            if "begun" in message:
                begun = True
            else:
                on_message(message)
        with suppress(TimeoutError):  # it has closed its end, so it is ending
            await asyncio.wait_for(process.wait(), 1)
        await self.stop()
        self.crashes += 1
        if self._cancelled:
            raise TaskCancelledError
        log.error("worker died", extra={"role": self.role, "code": process.returncode})
        raise WorkerDiedError(_reason(process.returncode or 0), begun)

    def cancel(self) -> None:
        """Stop the task that runs; if it does not stop in time, end the process."""
        if self._busy and self._cancelling is None:
            self._cancelled = True
            self.send(cancel=True)
            loop = asyncio.get_running_loop()
            process = self._process
            if process is not None:
                self._cancelling = loop.call_later(SECONDS_TO_CANCEL, _kill, process)

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
        _kill(process)
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
        if self._errors is not None:
            await asyncio.wait([self._errors], timeout=1)

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
                # Ctrl-C in the terminal is for the server alone.
                start_new_session=True,
            )
            self.cannot_start = None
            log.info("worker started", extra={"role": self.role, "pid": self._process.pid})
            self._errors = asyncio.create_task(self._log_errors(self._process))
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
                log.warning("worker: %s", text, extra={"role": self.role})


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
