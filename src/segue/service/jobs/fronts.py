"""The fronts that share a database: each has a lease, and loses its jobs where that runs out.

Times are the database's own, so the clocks of the machines do not matter.  A front that stalls and
comes back finds its lease gone.  What it began before is another attempt's by then, and no write of
it counts: see `Store.complete`.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SegueError
from .database import Database
from .rows import QUEUED, RUNNING, WAITING

log = logging.getLogger("segue.service")

LEASE_SECONDS = 15.0
"""How long a front may be silent before others run its jobs."""

_MARK = "folder-of-fronts"


@dataclass
class Others:
    """What the fronts say of themselves.

    Attributes:
        places: rows of jobs that may run together on all of them, this one included.
        progress: how far each job is that runs, by its id; see `JobProgress.said`.
    """

    places: int = 0
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)


class Fronts:
    """This front's lease, and what becomes of the others'.

    Args:
        database: that they share.
        folder: that they share, too.
        lease_seconds: see `LEASE_SECONDS`; the same for all.
        results: an address of shared storage that they share in the folder's place.

    Attributes:
        id: of this front, new with every start.
        lease_seconds: as they were given.

    Raises:
        SegueError: the folder, or the address, is not the one that the other fronts of this
            database have.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        lease_seconds: float = LEASE_SECONDS,
        results: str | None = None,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.lease_seconds = lease_seconds
        self._database, self._folder = database, folder
        self._places = 1
        self._seen = self._watching_since = 0.0
        self._same_place(results)
        self._join()

    def _same_place(self, results: str | None) -> None:
        """Find out whether all fronts have one place for results.

        A folder is known by a file in it that the database knows, an address by itself.
        """
        path = self._folder / _MARK
        mark = results or (path.read_text() if path.exists() else "")
        with self._database.transaction(serial=True) as db:
            found = db.execute("SELECT value FROM meta WHERE key = ?", (_MARK,)).fetchall()
            if not found:
                mark = mark or str(uuid.uuid4())
                if results is None:
                    path.write_text(mark)
                db.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (_MARK, mark))
            elif found[0]["value"] != mark:
                if results is not None or "://" in found[0]["value"]:
                    raise SegueError(
                        f"{results or self._folder} is not where other fronts keep the music of "
                        "this database; name their place with --results, or another --database"
                    )
                raise SegueError(
                    f"{self._folder} is not the folder that other fronts keep the music of this "
                    "database in; name that one with --state-dir, or another --database"
                )

    def folder_of(self, front: str) -> Path:
        """Where a front keeps what is nobody else's."""
        return self._folder / "fronts" / front

    @property
    def uploads(self) -> Path:
        """Where this front's uploads lie while they are read."""
        return self.folder_of(self.id) / "uploads"

    # --- This one -------------------------------------------------------------------------------

    def _join(self) -> None:
        with self._database.transaction() as db:
            (row,) = db.execute(
                f"INSERT INTO fronts (id, seen, places) VALUES (?, {self._database.now}, ?) "  # noqa: S608
                "ON CONFLICT (id) DO UPDATE SET seen = excluded.seen RETURNING seen",
                (self.id, self._places),
            ).fetchall()
        self._seen = self._watching_since = row["seen"]

    def beat(self, places: int, progress: Mapping[str, Mapping[str, Any]]) -> None:
        """Renew the lease.

        Args:
            places: rows of jobs that may run together on this front.
            progress: of the jobs that run here, by their ids.
        """
        self._places = places
        with self._database.transaction() as db:
            rows = db.execute(
                f"UPDATE fronts SET seen = {self._database.now}, places = ?, progress = ? "  # noqa: S608
                "WHERE id = ? RETURNING seen",
                (places, json.dumps(progress), self.id),
            ).fetchall()
        if not rows:
            log.warning("the lease of this front ran out; others run its jobs")
            self._join()
            self.uploads.mkdir(parents=True, exist_ok=True)  # they have removed it
            return
        if rows[0]["seen"] - self._seen > self.lease_seconds / 2:
            # It stalled itself, or the database was gone: the others may have been as silent.
            self._watching_since = rows[0]["seen"]
        self._seen = rows[0]["seen"]

    def leave(self) -> None:
        """End the lease; what this front has in the queue is the others'."""
        with self._database.transaction(serial=True) as db:
            db.execute("DELETE FROM holds WHERE front = ?", (self.id,))
            db.execute("DELETE FROM fronts WHERE id = ?", (self.id,))
        shutil.rmtree(self.folder_of(self.id), ignore_errors=True)

    # --- The others -----------------------------------------------------------------------------

    def others(self) -> Others:
        """What all fronts say of themselves."""
        found = Others()
        for row in self._database.rows("SELECT id, places, progress FROM fronts"):
            found.places += row["places"]
            if row["id"] != self.id:
                found.progress |= json.loads(row["progress"])
        return found

    def take_over(self) -> list[str]:
        """Queue the jobs of fronts that are gone again, and let what else they had be this one's.

        A front whose lease has run out counts as gone once this one has watched it for a lease:
        when the database itself was gone, nobody could renew anything.

        Returns:
            The ids of the downloads that are this front's now.
        """
        now, expired = self._database.now, self._seen - self.lease_seconds
        if self._seen - self._watching_since < self.lease_seconds:
            expired = 0.0
        of_nobody = "front NOT IN (SELECT id FROM fronts)"
        if not self._database.rows(
            f"SELECT id FROM fronts WHERE seen < ? UNION ALL SELECT id FROM jobs "  # noqa: S608
            f"WHERE state IN (?, ?) AND {of_nobody} UNION ALL SELECT id FROM downloads "
            f"WHERE state = ? AND {of_nobody} LIMIT 1",
            (expired, *WAITING, RUNNING),
        ):
            return []
        with self._database.transaction(serial=True) as db:
            gone = db.execute(
                # Looked at again: it may have come back, or this front may have stalled since.
                f"DELETE FROM fronts WHERE seen < ? AND id <> ? AND EXISTS "  # noqa: S608
                f"(SELECT 1 FROM fronts WHERE id = ? AND seen > {now} - ?) RETURNING id",
                (expired, self.id, self.id, self.lease_seconds / 2),
            ).fetchall()
            interrupted = db.execute(
                f"UPDATE jobs SET state = ?, deaths = deaths + 1, front = ? "  # noqa: S608
                f"WHERE state = ? AND {of_nobody} RETURNING id, attempts",
                (QUEUED, self.id, RUNNING),
            ).fetchall()
            db.execute(
                f"UPDATE jobs SET front = ? WHERE state = ? AND {of_nobody}",  # noqa: S608
                (self.id, QUEUED),
            )
            downloads = db.execute(
                f"UPDATE downloads SET front = ? WHERE state = ? AND {of_nobody} RETURNING id",  # noqa: S608
                (self.id, RUNNING),
            ).fetchall()
            db.execute(f"DELETE FROM holds WHERE {of_nobody}")  # noqa: S608
        for row in gone:
            log.warning("a front is gone", extra={"front": row["id"]})
            shutil.rmtree(self.folder_of(row["id"]), ignore_errors=True)
        for row in interrupted:
            log.info("job waits again", extra={"job": row["id"], "attempt": row["attempts"]})
            with suppress(OSError):
                shutil.rmtree(self._folder / "jobs" / row["id"] / str(row["attempts"]))
        return [row["id"] for row in downloads]
