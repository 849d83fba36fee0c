"""Whose turn it is among clients: start-time fair queueing, by seconds of new audio.

Each job has a turn, a number given once, when it is queued; the lowest goes first.  A client's next
turn lies behind its last one by the seconds of that job over the client's weight, and never before
the turn that the queue has come to.  So clients that always have jobs waiting get seconds in the
ratio of their weights; who comes anew does not wait for all that another has sent before; one
client's jobs keep their order, and the queue of a single client is first come first served.  Turns
lie in the store, so several fronts agree on them, and a restart changes none.

After P. Goyal, H. Vin and H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996; where several jobs
run at once the queue has come to the latest of theirs.
"""

from __future__ import annotations

from typing import NamedTuple

from .database import Session
from .rows import QUEUED, RUNNING, WAITING


class Turn(NamedTuple):
    """When it is a job's turn, and its client's next one, on the queue's own clock."""

    start: float
    end: float


def next_turn(db: Session, client: str, share: float) -> Turn:
    """The turn of a job that is about to be queued, by a serial transaction.

    Args:
        db: the transaction.
        client: the name of whose it is.
        share: its seconds of new audio, over the client's weight; more than 0.
    """
    (own,) = db.execute(_LAST_OF_CLIENT, (client,)).fetchall()
    start = max(_now(db), own["n"])
    return Turn(start, start + share)


def _now(db: Session) -> float:
    """The turn that the queue has come to."""
    (row,) = db.execute(_TURNS, (RUNNING, QUEUED, *WAITING)).fetchall()
    if row["running"] is not None:
        return float(row["running"])
    if row["queued"] is not None:
        return float(row["queued"])
    # Nothing waits, so nobody is owed anything, however much others have had before.
    (last,) = db.execute(_LAST).fetchall()
    return float(last["n"])


_LAST = "SELECT COALESCE(MAX(turn_end), 0.0) AS n FROM usage"
_LAST_OF_CLIENT = f"{_LAST} WHERE client = ?"
_TURNS = (
    "SELECT MAX(CASE WHEN state = ? THEN turn END) AS running, "
    "MIN(CASE WHEN state = ? THEN turn END) AS queued FROM jobs WHERE state IN (?, ?)"
)
