"""What clients have had generated, in the store's database, so that all fronts know of it.

A job counts from when it is queued, with the seconds of new audio of all its takes, until the day
is over, and not any more if it fails, or is cancelled before it began.  The rows outlive their
jobs: who removes music has had it made all the same.
"""

from __future__ import annotations

from ..clients import Client
from .database import Database, Session
from .rows import FAILED, WAITING
from .spec import JobSpec
from .turns import next_turn

DAY_SECONDS = 24 * 3600.0


class LimitReachedError(Exception):
    """A client has as much as it may.

    Attributes:
        limit: the name of the limit, as `Client` has it.
        used: how much of it is used.
    """

    def __init__(self, limit: str, used: float) -> None:
        super().__init__(f"{limit}: {used:g}")
        self.limit, self.used = limit, used


def day_of(now: float) -> float:
    """When the day of UTC began that a moment is in; both in seconds since 1970."""
    return now - now % DAY_SECONDS


def seconds_of(spec: JobSpec) -> float:
    """Seconds of new audio of all takes of a job."""
    return spec.new_seconds * spec.variations


class Usage:
    """Counts the jobs of clients, each inside of the transaction that queues or ends it.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def seconds(self, client: str, since: float) -> float:
        """Seconds of new audio, of all takes, that a client has had queued or generated.

        Args:
            client: its name.
            since: in seconds since 1970; what was queued before does not count.
        """
        (row,) = self._database.rows(_SECONDS, (client, since))
        return float(row["n"])

    def jobs(self, client: str) -> int:
        """How many jobs of a client wait or run.

        Args:
            client: its name.
        """
        (row,) = self._database.rows(_JOBS, (client, *WAITING))
        return int(row["n"])

    def claim(self, db: Session, job: str, client: Client, spec: JobSpec, now: float) -> float:
        """Count a job that is about to be queued, by a serial transaction.

        Args:
            db: the transaction.
            job: its id.
            client: whose it is.
            spec: of the job.
            now: in seconds since 1970.

        Returns:
            Its turn among those that wait; see `turns`.

        Raises:
            LimitReachedError: it would be more than the client may have.
        """
        if (most := client.jobs_at_once) is not None:
            (row,) = db.execute(_JOBS, (client.name, *WAITING)).fetchall()
            if row["n"] >= most:
                raise LimitReachedError("jobs_at_once", row["n"])
        if client.seconds_per_day is not None:
            (row,) = db.execute(_SECONDS, (client.name, day_of(now))).fetchall()
            if row["n"] + seconds_of(spec) > client.seconds_per_day:
                raise LimitReachedError("seconds_per_day", row["n"])
        seconds = seconds_of(spec)
        turn = next_turn(db, client.name, seconds / client.weight)
        db.execute(
            "INSERT INTO usage (job, client, created, seconds, turn_end) VALUES (?, ?, ?, ?, ?)",
            (job, client.name, now, seconds, turn.end),
        )
        return turn.start

    def give_back(self, db: Session, job: str) -> None:
        """Count a job no more that has just ended, if it failed or never began.

        Who listens while it plays, and cancels at its end, has had it.
        """
        db.execute(
            "DELETE FROM usage WHERE job = ? AND job IN "
            "(SELECT id FROM jobs WHERE id = ? AND (state = ? OR attempts = 0))",
            (job, job, FAILED),
        )


_JOBS = "SELECT COUNT(*) AS n FROM jobs WHERE client = ? AND state IN (?, ?)"
_SECONDS = "SELECT COALESCE(SUM(seconds), 0.0) AS n FROM usage WHERE client = ? AND created >= ?"
