"""Downloads, in a process of their own: they run beside generation, and can be stopped."""

from __future__ import annotations

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
