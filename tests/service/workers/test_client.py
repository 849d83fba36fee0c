"""The server's end: what it makes of what a worker process sends, and of how it ends."""

import asyncio
import sys

import pytest

from segue.service.exceptions import TaskCancelledError, TaskError, WorkerDiedError
from segue.service.workers import interface
from segue.service.workers.client import Worker

MESSAGES = """
echo '{"task": "a", "begun": true}'
echo '{"task": "a", "stage": "load", "done": 0, "total": null, "unit": ""}'
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run one task in a worker that is a script; returns the outcome, and what was sent before."""

    def run(script, during=None):
        program = tmp_path / "worker"
        program.write_text(f"#!/bin/sh\nread task\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        worker, messages = Worker("player", {}), []

        def received(message):
            messages.append(message)
            if during is not None:
                during(worker)

        async def outcome():
            try:
                return await worker.run({"kind": "generate", "id": "a"}, received)
            finally:
                await worker.stop()

        try:
            return asyncio.run(outcome()), messages, worker
        except Exception as error:
            return error, messages, worker

    return run


def test_messages_arrive_before_what_the_task_finished_with(run):
    outcome, messages, worker = run(
        MESSAGES + """echo '{"task": "a", "finished": {"takes": []}}'; cat"""
    )
    assert outcome == {"takes": []}
    assert messages == [{"stage": "load", "done": 0, "total": None, "unit": ""}]
    assert (worker.crashes, worker.pid) == (0, None)


def test_an_error_keeps_its_line_and_whose_fault_it_is(run):
    outcome, _, worker = run(
        """echo '{"task": "a", "error": "the model is damaged", "fault": false}'; cat"""
    )
    assert type(outcome) is TaskError
    assert (str(outcome), outcome.fault, worker.crashes) == ("the model is damaged", False, 0)


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            "kill -KILL $$",
            "the music was stopped: this machine ran out of memory; choose",
        ),
        ("kill -SEGV $$", "segue's worker was ended by SIGSEGV; try again"),
        ("exit 3", "segue's worker ended by itself (3); try again, its log says more"),
    ],
)
def test_a_worker_that_dies_says_why(run, end, line):
    outcome, _, worker = run(MESSAGES + end)
    assert isinstance(outcome, WorkerDiedError)
    assert str(outcome).startswith(line)
    assert (outcome.begun, worker.crashes) == (True, 1)


@pytest.mark.parametrize("line", ["no message", "[]"])
def test_a_worker_that_sends_no_message_is_ended(run, line):
    outcome, _, worker = run(f"{MESSAGES}echo '{line}'; exec cat")
    assert isinstance(outcome, WorkerDiedError)
    assert (outcome.begun, worker.pid) == (True, None)


def test_a_worker_that_does_not_stop_a_cancelled_task_is_ended(run, monkeypatch):
    monkeypatch.setattr(interface, "SECONDS_TO_CANCEL", 0.0)
    outcome, _, _ = run(MESSAGES + "exec cat >/dev/null", during=lambda w: w.cancel("a"))
    assert isinstance(outcome, TaskCancelledError)


def test_a_worker_that_cannot_start_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    worker = Worker("player", {})
    with pytest.raises(WorkerDiedError, match="could not start its player \\(No such file"):
        asyncio.run(worker.run({"kind": "load"}))
    assert worker.cannot_start == "No such file or directory"
