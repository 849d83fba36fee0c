"""A front restarted and machines stopped in an orderly way, under load: nothing is lost."""

from __future__ import annotations

import collections
import random
import sqlite3
import time
from collections.abc import Container
from pathlib import Path

from ...server import Server
from ...soak.figures import Figures
from ...soak.kills import Clients, references, settle
from ..nodes import Nodes, nodes
from .kills import playing_on
from .say import say

NODES = 3

WAYS = ("the front", "a machine by ray stop", "a machine that shuts down", "both")
"""What is ended; a shutdown ends a machine's workers before it, by up to a second."""


def restarts(folder: Path, quick: bool) -> Figures:
    """End fronts and machines with SIGTERM, in turn and together, and start others."""
    rounds, random_ = 1 if quick else 5, random.Random(1)
    figures = Figures(f"a front, and {NODES} nodes, ended with SIGTERM, the built-in checkpoint")
    hit: collections.Counter[str] = collections.Counter()
    longest, since = 0.0, 0
    with nodes(NODES, cpus=2) as cluster:
        options = ("--cluster", cluster.address, "--workers", "2-6", "--batch-rows", "2")
        with Server(folder / "state", *options) as server:
            clients = Clients(server, waiting=5)
            expected = references(server, clients)
            clients.start()
            try:
                for way in WAYS * rounds:
                    server.until(
                        lambda since=since: playing_on(server, since), "nothing plays", 120
                    )
                    time.sleep(random_.uniform(1.0, 5.0))
                    if way != "the front":
                        shut_down = way != "a machine by ray stop"
                        first = random_.uniform(0.0, 1.0) if shut_down else None
                        busy = playing_on(server, since)
                        hit["machines"] += _stop_machine(cluster, busy, random_, first)
                    if way in ("the front", "both"):
                        hit["fronts"] += bool(server.get("/health").json()["playing"])
                        seconds, since = _restart(server)
                        longest = max(longest, seconds)
            finally:
                clients.stop()
            settle(server, clients, expected, 0, figures)
            with sqlite3.connect(f"file:{server.state}/segue.db?mode=ro", uri=True) as db:
                (repeated,) = db.execute("SELECT COUNT(*) FROM jobs WHERE attempts > 1").fetchone()
                (crashes,) = db.execute("SELECT SUM(deaths) FROM jobs").fetchone()
            foreign = server.foreign_lines()
    if foreign:
        say(*foreign, sep="\n")
    assert not any("Traceback" in line for line in foreign), "something was not caught"
    assert crashes == 0, "an orderly stop was counted as a crash"
    assert min(hit[what] for what in ("machines", "fronts")), "nothing played where one was ended"
    figures.add("fronts restarted, of them while they played", f"{2 * rounds}, {hit['fronts']}")
    figures.add("machines stopped, of them while they played", f"{3 * rounds}, {hit['machines']}")
    figures.add("jobs that ran again, each completed once", repeated)
    figures.add("seconds from a front's SIGTERM until the next is ready, at most", f"{longest:.1f}")
    return figures


def _stop_machine(
    cluster: Nodes,
    playing: Container[str],
    random_: random.Random,
    workers_first: float | None,
) -> bool:
    """Stop one that plays if there is one, and add another; whether it played."""
    ids = cluster.ids()
    busy = [node for node in ids if node in playing]
    cluster.stop(random_.choice(busy or ids), workers_first)
    cluster.add()
    return bool(busy)


def _restart(server: Server) -> tuple[float, int]:
    """Seconds until the next front is ready, and how many lines those before it have logged."""
    began = time.monotonic()
    assert server.stop() == 0, "the front did not stop in an orderly way"
    before = len(server.lines())
    server.start()
    server.until(lambda: server.get("/ready").status_code == 200, "it is not ready")
    return time.monotonic() - began, before
