"""A worker on another machine of a Ray cluster: the loop of a worker process, in an actor.

Its tasks take and write files as they do beside the service; what they take is sent along, and what
they write goes back through the cluster's object store.
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from ...channel import Message, encode
from ..devices import half_of_memory
from ..settings import state_folder
from .roles import tasks_of
from .task_loop import ServerChannel, Task, run_tasks

CONTROL = "control"
"""The concurrency group of calls that are answered while tasks run."""

ENDS = ("finished", "error", "cancelled")


class WorkerActor:
    """Runs the tasks of a role.

    Args:
        settings: of the role, without folders, which are this machine's own; `resources` that the
            worker has of the machine, of which it takes as large a part of the memory.
        at_once: tasks that run at the same time.
    """

    def __init__(self, settings: Message, at_once: int) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._messages: dict[str, queue.SimpleQueue[Message]] = {}
        channel = ServerChannel(iter(self._lines.get, None), self._route)
        tasks = self.tasks(on_this_machine(settings))
        arguments = (tasks, channel, at_once)
        threading.Thread(target=run_tasks, args=arguments, daemon=True).start()

    def tasks(self, settings: Message) -> dict[str, Task]:
        """Return what it can do, by kind."""
        return tasks_of(settings)

    def _route(self, **message: Any) -> None:
        """Hand a message of a task to whoever yields them."""
        if (messages := self._messages.get(message.pop("task"))) is not None:
            messages.put(message)

    def node(self) -> tuple[str, int]:
        """Return the id of the machine and the process's number, once the worker takes tasks."""
        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    def cancel(self, name: str) -> None:
        """Have a task stop where it checks."""
        self._lines.put(encode({"cancel": name}).encode())

    def listen(self, name: str) -> None:
        """Let a task write a preview."""
        self._lines.put(encode({"listen": name}).encode())

    def run(self, name: str, task: Message, files: Mapping[str, bytes]) -> Iterator[Message]:
        """Run a task, and yield its messages, see `segue.service.workers.task_loop`.

        Args:
            name: of the task.
            task: as a worker process takes it; `folder`, if there is one, is of this machine.
            files: contents of those that `task` names, by its keys.

        Yields:
            The messages.  Before the last come `{"file": name, "data": bytes}`, one for each file
            that was written; and a message of a preview has `data`, the bytes of each take that are
            new.
        """
        messages = self._messages[name] = queue.SimpleQueue()
        folder = Path(tempfile.mkdtemp(prefix="segue-"))
        try:
            local = dict(task)
            for key, content in files.items():
                path = folder / f"{key}.wav"
                path.write_bytes(content)
                local[key] = str(path)
            written = folder / "out"
            if "folder" in task:
                local["folder"] = str(written)
            self._lines.put(encode({"task": {**local, "id": name}}).encode())
            sent: dict[str, int] = {}
            while True:
                message = messages.get()
                if "preview" in message:
                    message["data"] = _new_bytes(written, sent)
                if "finished" in message:
                    for path in sorted(written.glob("*.wav")):
                        yield {"file": path.name, "data": path.read_bytes()}
                yield message
                if any(end in message for end in ENDS):
                    return
        finally:
            del self._messages[name]
            shutil.rmtree(folder, ignore_errors=True)


def on_this_machine(settings: Message) -> Message:
    """The settings of a role, with folders and memory of the machine that it runs on."""
    budget = settings["max_loaded_bytes"] or round(half_of_memory() * _share(settings["resources"]))
    folder = state_folder() / "variants"
    return {**settings, "max_loaded_bytes": budget, "quantized_folder": str(folder)}


def _share(resources: Mapping[str, float]) -> float:
    """The largest part of any resource of this machine that is the worker's, 0 to 1."""
    here = ray.get_runtime_context().get_node_id()
    of_node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    parts = [amount / of_node[name] for name, amount in resources.items() if of_node.get(name)]
    return min(1.0, max(parts, default=1.0))


def _new_bytes(folder: Path, sent: dict[str, int]) -> dict[str, bytes]:
    """What previews have grown by, by their names; notes in `sent` how long they are now."""
    new = {}
    for path in sorted(folder.glob("preview-*.s16")):
        with path.open("rb") as file:
            file.seek(sent.get(path.name, 0))
            new[path.name] = file.read()
        sent[path.name] = sent.get(path.name, 0) + len(new[path.name])
    return new
