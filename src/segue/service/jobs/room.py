"""Room on the disk: what goes when it was kept long enough, and what makes room for others."""

from __future__ import annotations

import shutil
from pathlib import Path

from .database import Database
from .holds import Holds
from .kept import GONE, MAY_GO, REMOVED, WHOLE_JOB, Kept
from .results import Results
from .rows import Job

_UNUSED = (
    "id NOT IN (SELECT input FROM jobs UNION SELECT melody FROM jobs WHERE melody IS NOT NULL "
    "UNION SELECT input FROM holds)"
)
"""The condition on a row of the table of inputs under which nothing needs it."""


_ALL = 1 << 62
"""A limit that is none: SQLite and PostgreSQL have no such word in common."""

USAGE_SECONDS = 31 * 24 * 3600.0
"""How long it is kept what clients have had generated."""


class Room:
    """Removes what need not be kept.

    Args:
        database: of the store.
        kept: what people say of jobs.
        inputs: the folder of the inputs.
        jobs: the folder of the results.
        holds: the inputs that are being made into jobs; those stay.
        results: the same files in shared storage, if they are there, too.
    """

    def __init__(
        self,
        database: Database,
        kept: Kept,
        inputs: Path,
        jobs: Path,
        holds: Holds,
        results: Results | None = None,
    ) -> None:
        self._database, self._kept = database, kept
        self._inputs, self._jobs, self._holds, self._results = inputs, jobs, holds, results

    def bytes(self) -> int:
        """Bytes of all inputs and results."""
        parts = self._database.rows(
            "SELECT COALESCE(SUM(bytes), 0) AS n FROM inputs UNION ALL "
            "SELECT COALESCE(SUM(bytes), 0) AS n FROM jobs"
        )
        return int(sum(part["n"] for part in parts))

    def sweep(self, now: float, keep_seconds: float, limit: int, undo_seconds: float) -> int:
        """Remove what was kept long enough, and then the oldest until the rest fits into `limit`.

        What waits or runs stays, and what has a star, whatever its age and the limit.  To make
        room, what a user removed goes first, then inputs that no job has, then the oldest jobs.

        Args:
            now: in seconds since 1970.
            keep_seconds: how long a job is kept when it is over, or an input without a job.
            limit: bytes of all inputs and results.
            undo_seconds: for how long what a user removed can be restored.

        Returns:
            How many jobs were removed.
        """
        expired = self._kept.expired(now - undo_seconds)
        old = self._ids(f"finished < ? AND {MAY_GO}", now - keep_seconds)
        old = list({*old, *(name for name, take in expired if take == WHOLE_JOB)})
        self._remove(old)
        for name, take in expired:
            self._remove_take(name, take)
        removed = len(old)
        self._remove_inputs(f"added < {now - keep_seconds}")
        if self.bytes() > limit:
            while self.bytes() > limit and (going := self._ids(f"{MAY_GO} AND {REMOVED}", limit=1)):
                self._remove(going)
                removed += 1
            while self.bytes() > limit and self._remove_inputs("1 = 1", most=1):
                pass
            while self.bytes() > limit and (oldest := self._ids(MAY_GO, limit=1)):
                self._remove(oldest)
                removed += 1
        with self._database.transaction() as db:
            db.execute("DELETE FROM downloads WHERE finished < ?", (now - keep_seconds,))
            db.execute("DELETE FROM usage WHERE created < ?", (now - USAGE_SECONDS,))
        return removed

    def _ids(self, where: str, *values: float, limit: int = _ALL) -> list[str]:
        query = f"SELECT id FROM jobs WHERE {where} ORDER BY finished LIMIT ?"  # noqa: S608
        return [row["id"] for row in self._database.current_rows(query, (*values, limit))]

    def _remove(self, ids: list[str]) -> None:
        """Rows first: a file that no row names is found by the next start, the reverse never."""
        if not ids:
            return
        with self._database.transaction(serial=True) as db:
            db.executemany("DELETE FROM jobs WHERE id = ?", [(name,) for name in ids])
        self._remove_inputs("added = 0")
        for name in ids:
            shutil.rmtree(self._jobs / name, ignore_errors=True)
            if self._results is not None:
                self._results.remove(self._jobs / name)

    def _remove_inputs(self, where: str, most: int = -1) -> int:
        """Remove inputs that no job has, the oldest first; return how many."""
        query = f"SELECT id FROM inputs WHERE {_UNUSED} AND {where} ORDER BY added"  # noqa: S608
        with self._database.transaction(serial=True) as db:
            gone = [r["id"] for r in db.execute(query) if r["id"] not in self._holds]
            gone = gone if most < 0 else gone[:most]
            db.executemany("DELETE FROM inputs WHERE id = ?", [(name,) for name in gone])
        for name in gone:
            self._unlink(self._inputs / f"{name}.wav")
        return len(gone)

    def _remove_take(self, name: str, number: int) -> None:
        """Remove the files of a take that cannot be restored any more."""
        rows = self._database.current_rows("SELECT * FROM jobs WHERE id = ?", (name,))
        job = Job.of(rows[0]) if rows else None
        if job is None or job.result is None or number == WHOLE_JOB:
            return
        self._kept.change(name, number, {"deleted": GONE})
        take = job.result["takes"][number - 1]
        with self._database.transaction() as db:
            db.execute("UPDATE jobs SET bytes = bytes - ? WHERE id = ?", (take["bytes"], name))
        for file in {take["file"], take.get("new", take["file"])}:
            self._unlink(self._jobs / name / str(job.attempts) / file)

    def _unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if self._results is not None:
            self._results.remove(path)
