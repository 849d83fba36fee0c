"""What Python begins with in a service whose steps are slept, so that toys take a known time."""

import time

from segue.service.workers.task_loop import TaskChannel

CHECK_SECONDS = 0.005

_check = TaskChannel.check


def _slept(self: TaskChannel) -> None:
    """Check, as a job does twice at each of its frames, a while later."""
    if self.message.get("kind") == "generate":
        time.sleep(CHECK_SECONDS)
    _check(self)


TaskChannel.check = _slept  # type: ignore[method-assign]
