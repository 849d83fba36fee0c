"""Nodes of a cluster killed under load: nothing is lost, nothing is doubled, nothing fails."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

from ...server import Server
from ...soak.figures import Figures
from ...soak.kills import Clients, references, settle
from ..nodes import Nodes, nodes

NODES = 3


def kills(folder: Path, quick: bool) -> Figures:
    """Kill a node ten times, each at a random moment, and start another in its place."""
    times, random_ = 3 if quick else 10, random.Random(1)
    figures = Figures(f"a node of {NODES} killed {times} times, the built-in checkpoint")
    with nodes(NODES, cpus=2) as cluster:
        options = ("--cluster", cluster.address, "--workers", "2-6", "--batch-rows", "2")
        with Server(folder / "state", *options) as server:
            clients = Clients(server, waiting=5)
            expected = references(server, clients)
            clients.start()
            try:
                hit, again = _kill(server, cluster, random_, times)
            finally:
                clients.stop()
            settle(server, clients, expected, 0, figures)
            lost = [line for line in server.lines() if line["message"] == "worker died"]
            with sqlite3.connect(f"file:{server.state}/segue.db?mode=ro", uri=True) as db:
                (repeated,) = db.execute("SELECT COUNT(*) FROM jobs WHERE attempts > 1").fetchone()
    assert all(line["lost"] for line in lost), "a worker ended whose machine was there"
    assert hit, "no node was killed while it played"
    figures.add("nodes killed, of them while they played", f"{times}, {hit}")
    figures.add("workers that vanished with them while they played", len(lost))
    figures.add("jobs that ran again, each completed once", repeated)
    figures.add("seconds from a kill until a job of the node ran again, at most", f"{again:.1f}")
    return figures


def _kill(server: Server, cluster: Nodes, random_: random.Random, times: int) -> tuple[int, float]:
    """How many nodes were killed while they played, and how long their jobs waited at most."""
    hit, longest = 0, 0.0
    for _ in range(times):
        time.sleep(random_.uniform(1.0, 4.0))
        ids = cluster.ids()
        playing = {node: jobs for node, jobs in playing_on(server).items() if node in ids}
        node = random_.choice(sorted(playing) or cluster.ids())
        before = len(server.lines())
        cluster.kill(node)
        killed = time.monotonic()
        if jobs := playing.get(node, set()) - _done(server):
            hit += 1
            server.until(
                lambda jobs=jobs, before=before: (_begun(server, before) | _done(server)) >= jobs,
                "what a node played does not run again",
                120,
            )
            longest = max(longest, time.monotonic() - killed)
        cluster.add()
    return hit, longest


def playing_on(server: Server, since: int = 0) -> dict[str, set[str]]:
    """The jobs that run on each node now, as the log says from a line on."""
    nodes_of: dict[int, str] = {}
    running: dict[str, str] = {}
    for line in server.lines()[since:]:
        if line["message"] == "worker started" and "node" in line:
            nodes_of[line["worker"]] = line["node"]
        elif line["message"] == "job begins":
            running[line["job"]] = nodes_of[line["worker"]]
        elif line["message"] in ("job done", "job waits", "job waits to run alone"):
            running.pop(line["job"], None)
    found: dict[str, set[str]] = {}
    for job, node in running.items():
        found.setdefault(node, set()).add(job)
    return found


def _done(server: Server) -> set[str]:
    return {line["job"] for line in server.lines() if line["message"] == "job done"}


def _begun(server: Server, since: int) -> set[str]:
    lines = server.lines()[since:]
    return {line["job"] for line in lines if line["message"] == "job begins"}
