"""What a worker takes from the server, and how its tasks end."""

import errno
import json
import queue

import pytest

from segue.errors import AudioError
from segue.service.exceptions import TaskCancelledError
from segue.service.workers.task_loop import NO_DISK, NO_MEMORY, outcome_of

from .channels import recorded


def raising(error):
    def task(message, channel):
        raise error

    return task


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TaskCancelledError(), {"cancelled": True}),
        (AudioError("the audio is empty"), {"error": "the audio is empty", "fault": False}),
        (MemoryError(), {"error": NO_MEMORY, "fault": False}),
        (OSError(errno.ENOSPC, "No space left on device"), {"error": NO_DISK, "fault": True}),
        (
            PermissionError(errno.EACCES, "Permission denied", "/music/model/config.json"),
            {
                "error": "segue may not use /music/model/config.json (Permission denied)",
                "fault": True,
            },
        ),
        (
            KeyError("weight"),
            {
                "error": "something went wrong inside segue (KeyError); its log says more",
                "fault": True,
            },
        ),
    ],
)
def test_every_error_ends_a_task_with_one_message(error, outcome):
    assert outcome_of(raising(error), {}, recorded()) == outcome


def test_a_task_that_was_cancelled_stops_where_it_shows_progress():
    sent, lines = [], queue.Queue()
    channel = recorded(sent, iter(lines.get, None))
    lines.put(json.dumps({"task": {"kind": "count"}}).encode())
    assert channel.next_task() == {"kind": "count"}

    def task(message, channel):
        with channel.progress().stage("count") as advance:
            lines.put(b'{"cancel": true}')
            n = 0
            while True:
                advance(n := n + 1)

    assert outcome_of(task, {}, channel) == {"cancelled": True}
    assert sent[0] == {"stage": "count", "done": 0, "total": None, "unit": "", "begin": True}
    assert sent[-1] == {"end": "count"}

    lines.put(b'{"task": {"kind": "another"}}')  # is not cancelled, too
    channel.next_task()
    channel.check()


def test_a_line_that_is_no_message_is_skipped():
    lines = queue.Queue()
    channel = recorded(lines=iter(lines.get, None))
    for line in (b"\xff\n", b"[]\n", b"{\n", b'{"task": {"kind": "load"}}\n'):
        lines.put(line)
    assert channel.next_task() == {"kind": "load"}
