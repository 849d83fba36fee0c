"""Downloads that were requested ahead of time, in the store's database."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from . import leftovers
from .database import Database
from .rows import PAUSED, RUNNING, Download

_SELECT = "SELECT id, model, state, error, front FROM downloads "


class DownloadRows:
    """Keeps downloads, so that those which a stop interrupts go on after the next start.

    Args:
        database: of the store.
        clock: seconds since 1970, by which they are sorted and swept.
        front: the id of this front; empty where there is but one.
    """

    def __init__(self, database: Database, clock: Callable[[], float], front: str) -> None:
        self._database, self._clock, self._front = database, clock, front

    def add(self, model: str, state: str = RUNNING) -> Download:
        """Add a download of a model, which runs unless said otherwise."""
        name = str(uuid.uuid4())
        now = self._clock()
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO downloads (id, model, state, created, finished, front) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (name, model, state, now, None if state == RUNNING else now, self._front),
            )
        return Download(name, model, state, None, self._front)

    def end(self, name: str, state: str, error: str | None = None) -> None:
        """End a download that is complete, failed or was cancelled."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE downloads SET state = ?, error = ?, finished = ? "
                "WHERE id = ? AND state IN (?, ?)",
                (state, error, self._clock(), name, RUNNING, PAUSED),
            )

    def change(self, name: str, before: str, after: str) -> bool:
        """Pause or resume a download; False if it was not in the state `before`."""
        with self._database.transaction() as db:
            changed = db.execute(
                "UPDATE downloads SET state = ?, front = ? WHERE id = ? AND state = ?",
                (after, self._front, name, before),
            ).rowcount
        return bool(changed)

    def all(self) -> list[Download]:
        """All downloads that are known: those that are not over first, then newest first."""
        rows = self._database.rows(f"{_SELECT} ORDER BY finished IS NOT NULL, created DESC")
        return [Download(**dict(row)) for row in rows]

    def get(self, name: str) -> Download | None:
        """The download of that id; None if there is none or it has been swept."""
        if not leftovers.ID.fullmatch(name):  # what a client sends may be anything
            return None
        rows = self._database.rows(f"{_SELECT} WHERE id = ?", (name,))
        return Download(**dict(rows[0])) if rows else None

    def unfinished(self) -> list[Download]:
        """The downloads that ran when the service ended; of several fronts, this one's."""
        rows = self._database.rows(
            f"{_SELECT} WHERE state = ? AND front = ?", (RUNNING, self._front)
        )
        return [Download(**dict(row)) for row in rows]
