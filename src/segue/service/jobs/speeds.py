"""How long things take, learned from what was generated, in the store's database."""

from __future__ import annotations

from .database import Database


class Speeds:
    """Keeps seconds by key; `Estimates` knows what the keys mean.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, tuple[float, int]]:
        """Seconds that things take, by key, and from how many runs that is known."""
        rows = self._database.rows("SELECT key, seconds, count FROM speeds")
        return {row["key"]: (row["seconds"], row["count"]) for row in rows}

    def learn(self, speeds: dict[str, tuple[float, int]]) -> None:
        """Keep seconds and counts, by key."""
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO speeds (key, seconds, count) VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET seconds = excluded.seconds, "
                "count = excluded.count",
                [(key, seconds, count) for key, (seconds, count) in speeds.items()],
            )
