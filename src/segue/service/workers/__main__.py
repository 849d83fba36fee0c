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

from ...channel import Sender
from .roles import tasks_of
from .task_loop import ServerChannel, run_tasks


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
