"""What a worker takes from the server, and how its tasks end."""

import errno
import json
import threading
import time

import pytest

from segue.errors import AudioError
from segue.service.exceptions import TaskCancelledError
from segue.service.workers.task_loop import NO_DISK, NO_MEMORY, outcome_of, run_tasks

from .channels import lines_of, received, recorded


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
    sent, (lines, iterator) = [], lines_of()
    channel = received(iterator, sent)
    lines.put(b'{"task": {"id": "one", "kind": "count"}}')
    lines.put(b'{"task": {"id": "two", "kind": "count"}}')
    one, two = channel.next_task(), channel.next_task()
    assert one.message == {"id": "one", "kind": "count"}

    def task(message, channel):
        with channel.progress().stage("count") as advance:
            lines.put(b'{"cancel": "one"}')
            n = 0
            while True:
                advance(n := n + 1)

    assert outcome_of(task, {}, one) == {"cancelled": True}
    stage = {"task": "one", "stage": "count", "done": 0, "total": None, "unit": ""}
    assert sent[0] == {**stage, "begin": True}
    assert sent[-1] == {"task": "one", "end": "count"}
    two.check()  # is not cancelled, too


def test_a_task_that_is_cancelled_before_it_begins_does_nothing():
    lines, iterator = lines_of()
    channel = received(iterator)
    for line in (b'{"task": {"id": "one"}}', b'{"cancel": "one"}', b'{"task": {"id": "two"}}'):
        lines.put(line)
    one, _ = channel.next_task(), channel.next_task()
    with pytest.raises(TaskCancelledError):
        one.check()


def test_a_line_that_is_no_message_is_skipped():
    lines, iterator = lines_of()
    channel = received(iterator)
    lines.put(b"\xff\n")
    lines.put(b"[]\n")
    lines.put(b"{\n")
    lines.put(b'{"cancel": "nobody"}\n')
    lines.put(b'{"task": {"id": "one", "kind": "load"}}\n')
    assert channel.next_task().message["kind"] == "load"


def test_as_many_tasks_run_at_once_as_may():
    sent, (lines, iterator), together = [], lines_of(), threading.Barrier(3)

    def task(message, channel):
        together.wait(60)  # none of them ends before all have begun
        return {"of": channel.name}

    channel = received(iterator, sent)
    threading.Thread(target=run_tasks, args=({"meet": task}, channel, 3), daemon=True).start()
    for name in "abc":
        lines.put(json.dumps({"task": {"id": name, "kind": "meet"}}).encode())
    until = time.monotonic() + 60
    while sum("finished" in message for message in list(sent)) < 3:
        assert time.monotonic() < until
        time.sleep(0.005)
    finished = {m["task"]: m["finished"] for m in sent if "finished" in m}
    assert finished == {name: {"of": name} for name in "abc"}
