"""Downloads, in a process of their own: they go on while music is made, and can be stopped."""

from __future__ import annotations

from typing import Any

from ...checkpoints import hub
from ...errors import CheckpointError
from ..jobs.missing_files import lacking
from .__main__ import Line, Told


def fetch(task: dict[str, Any], line: Line) -> dict[str, Any]:
    """The task `fetch`: `{source, base, text}`; everything that it lacks is here afterwards.

    Raises:
        CheckpointError: one line, be it the network, the hub or the disk.
    """
    asked = (task["source"], task["base"], task["text"])
    fetched = 0
    for _ in range(2):  # the model; then the companions that it turns out to need
        repositories = lacking(*asked)
        for repository in repositories:
            fetched += 1
            total = fetched + len(repositories) - repositories.index(repository) - 1
            line.tell(repository=repository, index=fetched, of=total)
            hub.locate(repository, progress=Told(line))
    if left := lacking(*asked):
        raise CheckpointError(f"{', '.join(left)} did not arrive whole; try again")
    return {}
