"""Downloads, in a process of their own: they run beside generation, and can be stopped."""

from __future__ import annotations

import shutil

from ...channel import Message
from ...checkpoints import hub
from ...errors import CheckpointError
from ..jobs.missing_files import missing_repositories
from .task_loop import TaskChannel


def download(task: Message, channel: TaskChannel) -> Message:
    """Download every repository that a model needs and this machine lacks.

    Sends `{"repository": name, "index": number from 1, "of": count}` before each.

    Args:
        task: `{source, base, text}`, see `missing_files`.
        channel: takes the progress.

    Returns:
        An empty message.

    Raises:
        CheckpointError: one line; the network, the hub or the disk failed.
    """
    wanted = (task["source"], task["base"], task["text"])
    count = 0
    for _ in range(2):  # the model; then the companions that it turns out to need
        repositories = missing_repositories(*wanted)
        for repository in repositories:
            count += 1
            total = count + len(repositories) - repositories.index(repository) - 1
            channel.send(repository=repository, index=count, of=total)
            hub.locate(repository, progress=channel.progress())
    if left := missing_repositories(*wanted):
        raise CheckpointError(f"{', '.join(left)} did not arrive whole; try again")
    return {}


def size(task: Message, channel: TaskChannel) -> Message:
    """Ask the hub how large the repositories are that a model needs and this machine lacks.

    Args:
        task: `{source, base}`, see `missing_files`.
        channel: of the task.

    Returns:
        `{repositories, free_bytes}`: of each repository its `name`, its `bytes`, and
        `missing_bytes` of them; what is free on the disk that they go to.

    Raises:
        CheckpointError: one line; the network or the hub failed.
    """
    found = []
    for repository in missing_repositories(task["source"], task["base"], True):
        total, missing = hub.size(repository)
        found.append({"name": repository, "bytes": total, "missing_bytes": missing})
    folder = hub.cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return {"repositories": found, "free_bytes": shutil.disk_usage(there).free}
