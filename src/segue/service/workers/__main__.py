"""The entry of a worker process: tasks on standard input, messages on standard output.

    python -P -m segue.service.workers '{"role": "player", ...}'

See `segue.service.workers.task_loop` for the messages.  This module runs as `__main__`, so nothing
imports it: what others need lies beside it, and exists once.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from ...channel import Message, Sender
from .task_loop import ServerChannel, Task, run_tasks


def tasks_of(settings: Message) -> dict[str, Task]:
    """Return what a worker of a role can do; each role imports what it needs and no more."""
    if settings["role"] == "reader":
        from .decode_audio import AudioDecoder

        return {"decode_audio": AudioDecoder(settings["limits"]).decode}
    if settings["role"] == "downloader":
        from .download import download, size

        return {"download": download, "size": size}
    if settings["role"] == "measurer":
        from . import measure

        return {"find_beats": measure.find_beats, "beat_offsets": measure.beat_offsets}
    if settings["role"] == "exporter":
        from .export import export

        return {"export": export}
    from .generate import Generator

    generator = Generator(settings)
    return {"generate": generator.generate, "load": generator.load, "drop": generator.drop}


def main() -> None:
    """Run the tasks of a role until the server is gone."""
    # Whatever a library prints must not be taken for a message.
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with suppress(OSError):  # when memory runs out, the system shall end a worker
        Path("/proc/self/oom_score_adj").write_text("500")
    settings = json.loads(sys.argv[1])
    channel = ServerChannel(sys.stdin.buffer, Sender(outgoing))
    run_tasks(tasks_of(settings), channel, settings.get("at_once", 1))


if __name__ == "__main__":
    main()
