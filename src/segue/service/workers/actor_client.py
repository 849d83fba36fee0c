"""The service's end of a worker in a Ray cluster: starts an actor, gives it tasks, and ends it.

Imported with Ray, see `segue.cluster`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ...atomic import replacing, sync_folder
from ...channel import Message
from ..exceptions import TaskCancelledError, TaskError, WorkerDiedError
from .actor import CONTROL, WorkerActor
from .actor_end import vanished
from .interface import OnMessage, RunningTask, ignore

log = logging.getLogger("segue.service")

FILES = ("input", "melody")
"""The keys of a task that name files."""

SECONDS_BETWEEN_STARTS = 1.0

LOST_LINE = "the machine that played this has vanished from the cluster; try again"
CRASH_LINE = "segue's worker ended by itself; try again, its log says more"


@dataclass(eq=False)
class _Actor:
    """An actor that runs, or has run.

    Attributes:
        handle: Ray's.
        node: the id of its machine.
        tasks: that it has, by their names.
        death: finds out how it ended, once it has.
    """

    handle: Any
    node: str
    tasks: dict[str, RunningTask] = field(default_factory=dict)
    death: asyncio.Task[None] | None = None


class ActorWorker:
    """A worker in a cluster, see `WorkerClient`, which it fulfils.

    Args:
        number: of the worker, for the log.
        settings: see `WorkerActor`.
        at_once: tasks that it runs at the same time; further ones wait.
        resources: that it needs of a machine: `num_cpus`, `num_gpus`, and what else an actor of Ray
            takes in its options.
        actor: its class.
    """

    def __init__(
        self,
        number: int,
        settings: Message,
        at_once: int,
        resources: Mapping[str, Any],
        actor: type[WorkerActor] = WorkerActor,
    ) -> None:
        self.crashes = 0
        self.cannot_start: str | None = None
        self.on_end: Callable[[], None] = lambda: None
        self._named = {"role": settings["role"], "worker": number}
        self._make = ray.remote(concurrency_groups={CONTROL: 2})(actor).options(
            max_concurrency=at_once, max_restarts=0, max_task_retries=0, **resources
        )
        self._settings, self._at_once = settings, at_once
        self._actor: _Actor | None = None
        self._starting: asyncio.Task[_Actor] | None = None
        self._room = asyncio.Semaphore(at_once)
        self._numbers = count(1)

    @property
    def alive(self) -> bool:
        """See `WorkerClient`."""
        return self._actor is not None

    @property
    def available(self) -> bool:
        """See `WorkerClient`."""
        return self._actor is not None

    async def start(self) -> None:
        """See `WorkerClient`."""
        await self._running()

    async def _running(self) -> _Actor:
        """The actor, once it runs; several may wait for it."""
        if self._actor is not None:
            return self._actor
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Actor:
        """Start the actor, however long the cluster takes to have room for it."""
        try:
            while True:
                handle = self._make.remote(self._settings, self._at_once)
                try:
                    node, pid = await handle.node.options(concurrency_group=CONTROL).remote()
                except RayActorError as error:  # its machine may have vanished meanwhile
                    ray.kill(handle)
                    self.cannot_start = _first_line(error)
                    log.warning(
                        "worker does not start", extra={**self._named, "reason": str(error)}
                    )
                    await asyncio.sleep(SECONDS_BETWEEN_STARTS)
                except BaseException:
                    ray.kill(handle)
                    raise
                else:
                    self.cannot_start = None
                    self._actor = _Actor(handle, node)
                    log.info("worker started", extra={**self._named, "pid": pid, "node": node})
                    return self._actor
        finally:
            self._starting = None

    # --- Tasks ----------------------------------------------------------------------------------

    async def run(self, task: Message, on_message: OnMessage = ignore) -> Message:
        """See `WorkerClient`."""
        async with self._room:
            actor = await self._running()
            name = str(task.get("id", next(self._numbers)))
            actor.tasks[name] = running = RunningTask(on_message)
            following = asyncio.create_task(self._follow(actor, name, task, running))
            try:
                return await running.outcome
            except asyncio.CancelledError:
                await self.stop()  # nobody would read the rest
                raise
            finally:
                following.cancel()
                running.over()
                del actor.tasks[name]

    async def _follow(self, actor: _Actor, name: str, task: Message, running: RunningTask) -> None:
        """Send a task, and receive what the actor says until the task has ended."""
        try:
            sent = await asyncio.to_thread(_contents, task)
            files = await asyncio.to_thread(ray.put, sent)
            run = actor.handle.run.options(num_returns="streaming")
            async for reference in run.remote(name, task, files):
                message = await reference
                if (data := message.pop("data", None)) is not None:
                    await asyncio.to_thread(_keep, task, message, data)
                if "file" not in message:
                    running.receive(message)
        except RayTaskError as error:
            log.error("worker failed", extra={**self._named, "reason": str(error)})
            line = "something went wrong inside segue's worker; its log says more"
            running.fail(TaskError(line, fault=True))
        except RayError as error:
            if actor.death is None:
                actor.death = asyncio.create_task(self._died(actor, error))
            await asyncio.shield(actor.death)
        except Exception as error:  # the disk, most likely
            running.fail(error)

    async def _died(self, actor: _Actor, error: RayError) -> None:
        """Find out how an actor ended, and tell its tasks."""
        shared = len(actor.tasks) > 1  # what comes while it is found out has not ended it
        lost = await vanished(actor.handle, actor.node, error)
        ended = any(task.cancelling is not None for task in actor.tasks.values())
        tasks = list(actor.tasks.values())
        current = self._actor is actor
        self._forget(actor)
        if current and tasks and not ended:
            self.crashes += 1
            log.error("worker died", extra={**self._named, "node": actor.node, "lost": lost})
        for task in tasks:
            if task.cancelling is not None:
                task.fail(TaskCancelledError())
                continue
            # Where it was ended for another's sake, this one is not to blame: it runs again.
            blameless = lost or ended or not current or not task.begun
            line = LOST_LINE if blameless else CRASH_LINE
            first = task is tasks[0] and not ended
            task.fail(WorkerDiedError(line, task.begun, shared, first, blameless))

    def _forget(self, actor: _Actor) -> None:
        if self._actor is actor:
            self._actor = None
            self.on_end()
        with suppress(RayError):  # it may run on where the network is at fault
            ray.kill(actor.handle)

    def cancel(self, name: str) -> None:
        """See `WorkerClient`."""
        actor = self._actor
        if actor is None or (task := actor.tasks.get(name)) is None or task.cancelling is not None:
            return
        actor.handle.cancel.options(concurrency_group=CONTROL).remote(name)
        task.cancel_after(lambda: ray.kill(actor.handle))

    def listen(self, name: str) -> None:
        """See `WorkerClient`."""
        if self._actor is not None and name in self._actor.tasks:
            self._actor.handle.listen.options(concurrency_group=CONTROL).remote(name)

    async def stop(self) -> None:
        """See `WorkerClient`."""
        if self._starting is not None:
            self._starting.cancel()
        if (actor := self._actor) is not None:
            self._forget(actor)


def _contents(task: Message) -> dict[str, bytes]:
    """The files that a task names, as far as there are any."""
    named = {key: Path(task[key]) for key in FILES if task.get(key)}
    return {key: path.read_bytes() for key, path in named.items() if path.is_file()}


def _keep(task: Message, message: Message, data: Any) -> None:
    """Write what a worker has written on its machine."""
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    if "preview" in message:
        for name, new in data.items():
            with (folder / Path(name).name).open("ab") as file:
                file.write(new)
        return
    with replacing(folder / Path(message["file"]).name, durable=True) as temporary:
        temporary.write_bytes(data)
    sync_folder(folder.parent)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
