"""A service with workers whose step is slept: as if each had a device of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from segue.channel import ChannelProgress, Message
from segue.cluster import connect
from segue.demo.toy import write_checkpoint
from segue.service.cluster import workers
from segue.service.settings import Limits, Settings
from segue.service.workers.actor import WorkerActor
from segue.service.workers.pool import Pool
from segue.service.workers.task_loop import Task, TaskChannel

from ...in_process import InProcess
from ..nodes import nodes

STEP_SECONDS = 0.2
"""Long, so that two cores have little to do for sixteen workers: the rest is what is measured."""


class _SleptChannel(TaskChannel):
    """A channel to the server whose check, made at each frame, takes as long as a step."""

    def __init__(self, channel: TaskChannel) -> None:
        super().__init__(channel.name, channel.message, lambda **message: None)
        self.listening = channel.listening
        self._channel = channel

    def send(self, **message: Any) -> None:
        """See `TaskChannel.send`."""
        self._channel.send(**message)

    def progress(self) -> ChannelProgress:
        """See `TaskChannel.progress`."""
        return self._channel.progress()

    def check(self) -> None:
        """See `TaskChannel.check`."""
        time.sleep(STEP_SECONDS)
        self._channel.check()


class SleptActor(WorkerActor):
    """Generates with a real model, and sleeps at every step."""

    def tasks(self, settings: Message) -> dict[str, Task]:
        """See `WorkerActor.tasks`."""
        tasks = super().tasks(settings)
        generate = tasks["generate"]
        return {**tasks, "generate": lambda task, ch: generate(task, _SleptChannel(ch))}


@contextmanager
def joined(cpus: int, on_nodes: int = 3) -> Iterator[str]:
    """Start a cluster with so many processors, and join it; its address."""
    with nodes(on_nodes, cpus=-(-cpus // on_nodes)) as cluster:
        connect(cluster.address)
        try:
            yield cluster.address
        finally:
            ray.shutdown()


@contextmanager
def slept(folder: Path, address: str, count: int) -> Iterator[InProcess]:
    """Serve the toy checkpoint with `count` such workers, in the cluster that was joined."""
    settings = Settings(
        state=folder / "state",
        models=(write_checkpoint(folder / "toy"),),
        threads=1,
        workers=(count, count),
        cluster=address,
        limits=Limits(waiting=10_000),
    )
    pool = Pool(workers(settings, SleptActor), batch_rows=settings.batch_rows)
    with InProcess(settings, pool) as running:
        yield running
