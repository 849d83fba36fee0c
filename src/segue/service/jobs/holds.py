"""Inputs that jobs are being made of, which no sweep may take meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..exceptions import RefusalError
from .database import Database, DatabaseError

log = logging.getLogger("segue.service")


class Holds:
    """What this front holds: in memory, and, where several share the database, there, too.

    Args:
        database: of the store.
        front: the id of this front; empty where there is but one.
    """

    def __init__(self, database: Database, front: str) -> None:
        self._database, self._front = database, front
        self._here: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        """Whether this front holds an input."""
        return self._here[name] > 0

    @contextmanager
    def holding(self, inputs: Sequence[str]) -> Iterator[None]:
        """Keep these inputs.

        Raises:
            RefusalError: another front has swept one.
        """
        self._here.update(inputs)
        try:
            self._hold(inputs)
            yield
        finally:
            self._here.subtract(inputs)
            self._release(inputs)

    def _hold(self, inputs: Sequence[str]) -> None:
        if not inputs or not self._front:
            return
        with self._database.transaction(serial=True) as db:
            for name in inputs:
                if not db.execute("SELECT id FROM inputs WHERE id = ?", (name,)).fetchall():
                    raise RefusalError(404, "this audio is not known any more; send it again")
                db.execute("INSERT INTO holds (front, input) VALUES (?, ?)", (self._front, name))

    def _release(self, inputs: Sequence[str]) -> None:
        if not inputs or not self._front:
            return
        try:
            with self._database.transaction() as db:
                for name in inputs:
                    db.execute(
                        "DELETE FROM holds WHERE number = (SELECT MIN(number) FROM holds "
                        "WHERE front = ? AND input = ?)",
                        (self._front, name),
                    )
        except DatabaseError:  # they are kept until this front ends
            log.exception("inputs cannot be released")
