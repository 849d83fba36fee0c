"""The rows of the store's tables, and the states that a job or a download can be in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .database import Row
from .spec import JobSpec

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = (
    "queued",
    "running",
    "completed",
    "failed",
    "cancelled",
)
WAITING = (QUEUED, RUNNING)

PAUSED = "paused"
"""A download that its user goes on with later."""


@dataclass(frozen=True)
class Input:
    """A row of the table of inputs: the decoded audio of one or more jobs.

    Attributes:
        id: its name in the store.
        sample_rate: in Hz.
        channels: how many.
        frames: samples per channel.
        bytes: of the file.
        name: of the file that was sent, where the client said it.
        added: when it was sent by itself, in seconds since 1970, to be kept as long as a job is;
            0 for one that came with a job, and goes with the last one that has it.
        client: see `Job`.
    """

    id: str
    sample_rate: int
    channels: int
    frames: int
    bytes: int
    name: str = ""
    added: float = 0.0
    client: str = ""

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Parent:
    """What a job plays on from.

    Attributes:
        job: the id of a job, which may be kept no more.
        take: which of its takes, from 1.
        seconds: where in it.
    """

    job: str
    take: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """A row of the table of jobs.

    Attributes:
        number: in the order in which they came.
        id: the plugin's session, too.
        state: `queued`, `running`, `completed`, `failed` or `cancelled`.
        input: the id of its audio.
        spec: what it generates (column `asked`).
        attempts: how often it was begun.
        crashes: how often the service ended while it ran, without being stopped (column `deaths`).
        created, finished: seconds since 1970.
        result: the worker's outcome, where it is completed.
        error: one line, where it failed.
        parent: the take that it plays on from, if it does.
        root: the id of the first job of its chain.
        client: whose it is; empty where clients are not told apart.
        front: that accepted it, and then that runs it; empty where there is but one.
        turn: its place among those that wait; see `turns`.
    """

    number: int
    id: str
    state: str
    input: str
    spec: JobSpec
    attempts: int
    crashes: int
    created: float
    finished: float | None
    result: dict[str, Any] | None
    error: str | None
    parent: Parent | None = None
    root: str = ""
    client: str = ""
    front: str = ""
    turn: float = 0.0

    @classmethod
    def of(cls, row: Row) -> Job:
        """The job of a row."""
        result, parent = row["result"], None
        if row["parent"] is not None:
            parent = Parent(row["parent"], row["parent_take"], row["parent_seconds"])
        return cls(
            number=row["number"],
            id=row["id"],
            state=row["state"],
            input=row["input"],
            spec=JobSpec.from_json(json.loads(row["asked"])),
            attempts=row["attempts"],
            crashes=row["deaths"],
            created=row["created"],
            finished=row["finished"],
            result=None if result is None else json.loads(result),
            error=row["error"],
            parent=parent,
            root=row["root"] or row["id"],
            client=row["client"],
            front=row["front"],
            turn=row["turn"],
        )


@dataclass(frozen=True)
class QueueEntry:
    """Where a job is in the queue of all fronts; see `Job`.

    Attributes:
        listened: 1 where somebody listens to it on a front that does not run it.
    """

    id: str
    state: str
    front: str
    attempts: int
    crashes: int
    listened: int


@dataclass(frozen=True)
class Download:
    """A row of the table of downloads.

    Attributes:
        front: that downloads; empty where there is but one.
    """

    id: str
    model: str
    state: str
    error: str | None
    front: str = ""
