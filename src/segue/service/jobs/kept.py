"""What people say of kept jobs and of their takes: names, notes, stars, and what they removed.

A mark is about a take, or, with the number 0, about the whole job.  What is removed can be restored
for a while; then its files go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .database import Database, Row
from .rows import Job

WHOLE_JOB = 0
"""The number of the mark that is about a job, and not about one of its takes."""

GONE = 0.0
"""When something was removed whose files are gone, too."""

_STARRED = "id IN (SELECT job FROM marks WHERE starred = 1 AND deleted IS NULL)"
REMOVED = "id IN (SELECT job FROM marks WHERE take = 0 AND deleted IS NOT NULL)"

MAY_GO = f"finished IS NOT NULL AND ({REMOVED} OR NOT {_STARRED})"
"""The condition on a row of the table of jobs under which it may make room for others."""


@dataclass(frozen=True)
class Mark:
    """A row of the table of marks.

    Attributes:
        name, note: of the job or the take; empty for none.
        starred: whether it is kept until it is removed.
        deleted: when it was removed, in seconds since 1970; `GONE` where it cannot be restored.
        beats: how far its beats lie from its grid, once that is known.
    """

    name: str = ""
    note: str = ""
    starred: bool = False
    deleted: float | None = None
    beats: dict[str, Any] | None = None

    @classmethod
    def of(cls, row: Row) -> Mark:
        """The mark of a row."""
        beats = None if row["beats"] is None else json.loads(row["beats"])
        return cls(row["name"], row["note"], bool(row["starred"]), row["deleted"], beats)


NO_MARK = Mark()


@dataclass(frozen=True)
class Page:
    """Some of the jobs that are kept.

    Attributes:
        jobs: newest first.
        next: the number of the last one, before which the next page begins; None on the last page.
        total: how many there are on all pages.
    """

    jobs: list[Job]
    next: int | None
    total: int


class Kept:
    """Marks, and pages of the jobs that are kept.

    Args:
        database: of the store.
        clock: see `Store`.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def marks(self, job_id: str) -> dict[int, Mark]:
        """The marks of a job, by the number of the take; 0 is the job itself."""
        rows = self._database.rows("SELECT * FROM marks WHERE job = ?", (job_id,))
        return {row["take"]: Mark.of(row) for row in rows}

    def removed(self, job_id: str, number: int = WHOLE_JOB) -> bool:
        """Whether a job, or one of its takes, was removed."""
        return self.marks(job_id).get(number, NO_MARK).deleted is not None

    def change(self, job_id: str, number: int, changes: Mapping[str, Any]) -> None:
        """Change a mark.

        Args:
            job_id: of a job that there is.
            number: of a take, or `WHOLE_JOB`.
            changes: what becomes of it, by the names of `Mark`.
        """
        values = dict(changes)
        if values.get("beats") is not None:
            values["beats"] = json.dumps(values["beats"])
        if not values:
            return
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO marks (job, take) VALUES (?, ?) ON CONFLICT (job, take) DO NOTHING",
                (job_id, number),
            )
            db.execute(
                f"UPDATE marks SET {columns} WHERE job = ? AND take = ?",  # noqa: S608
                (*values.values(), job_id, number),
            )

    def remove(self, job: Job, number: int = WHOLE_JOB) -> float:
        """Remove a job, or one of its takes; with its last take goes the job.

        Returns:
            When: so long it can be restored, and a while longer.
        """
        now = self._clock()
        self.change(job.id, number, {"deleted": now})
        if self._without_takes(job):
            self.change(job.id, WHOLE_JOB, {"deleted": now})
        return now

    def restore(self, job: Job, number: int, undo_seconds: float) -> bool | None:
        """Restore a job, or one of its takes, and the job with it.

        Args:
            job: as it was before.
            number: of the take, or `WHOLE_JOB`: a job whose takes were removed one by one comes
                back with those that can be.
            undo_seconds: for how long that can be.

        Returns:
            Whether it was removed; None where it is too late.
        """
        marks, since = self.marks(job.id), self._clock() - undo_seconds
        deleted = marks.get(number, NO_MARK).deleted
        if deleted is None:
            return False
        if deleted < since or deleted == GONE:
            return None
        self.change(job.id, number, {"deleted": None})
        if number != WHOLE_JOB:
            self.change(job.id, WHOLE_JOB, {"deleted": None})
        elif self._without_takes(job):
            for n, mark in marks.items():
                if mark.deleted is not None and mark.deleted >= since:
                    self.change(job.id, n, {"deleted": None})
        return True

    def _without_takes(self, job: Job) -> bool:
        """Whether a job had takes, and all are removed."""
        marks = self.marks(job.id)
        takes = range(1, len((job.result or {}).get("takes", ())) + 1)
        return bool(takes) and all(marks.get(n, NO_MARK).deleted is not None for n in takes)

    def expired(self, before: float) -> list[tuple[str, int]]:
        """Jobs and takes that were removed before some time, and whose files are there still."""
        rows = self._database.current_rows(
            "SELECT job, take FROM marks WHERE deleted > ? AND deleted < ?", (GONE, before)
        )
        return [(row["job"], row["take"]) for row in rows]

    def page(
        self,
        limit: int,
        before: int | None = None,
        starred: bool = False,
        root: str | None = None,
        removed: bool = False,
        client: str | None = None,
    ) -> Page:
        """Jobs, newest first.

        Args:
            limit: how many at most.
            before: the number of a job, behind which they begin.
            starred: only those with a star, of their own or of a take.
            root: only those of one chain.
            removed: only those that were removed, which are left out else.
            client: only those of one client; None for all.
        """
        where = [REMOVED if removed else f"NOT {REMOVED}"]
        values: list[object] = []
        if starred:
            where.append(_STARRED)
        if root is not None:
            where.append("COALESCE(root, id) = ?")
            values.append(root)
        if client is not None:
            where.append("client = ?")
            values.append(client)
        counted = " AND ".join(where)
        (total,) = self._database.rows(
            f"SELECT COUNT(*) AS n FROM jobs WHERE {counted}",  # noqa: S608
            tuple(values),
        )
        if before is not None:
            where.append("number < ?")
            values.append(before)
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE {' AND '.join(where)} "  # noqa: S608
            "ORDER BY number DESC LIMIT ?",
            (*values, limit + 1),
        )
        jobs = [Job.of(row) for row in rows[:limit]]
        return Page(jobs, jobs[-1].number if len(rows) > limit else None, total["n"])

    def starred_bytes(self) -> int:
        """Bytes of the takes that have a star, and of their inputs."""
        (row,) = self._database.rows(
            "SELECT (SELECT COALESCE(SUM(bytes), 0) FROM jobs "  # noqa: S608
            f"WHERE {_STARRED}) + (SELECT COALESCE(SUM(bytes), 0) FROM inputs "
            f"WHERE id IN (SELECT input FROM jobs WHERE {_STARRED})) AS n"
        )
        return int(row["n"])
