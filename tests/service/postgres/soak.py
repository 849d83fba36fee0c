"""`python -m tests.service.postgres.soak [--quick]`: fronts killed under load, on one PostgreSQL.

Nothing is lost, nothing is doubled, and what fails has ended fronts three times.  Exits with 1 if
that is not so.  Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import collections
import functools
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..server import Server
from ..soak.figures import Figures
from ..soak.kills import GIVEN_UP, Clients, digest, references
from .server import database, postgres

say = functools.partial(print, flush=True)

FRONTS = 2
LEASE = 4.0


class Fronts:
    """The fronts that run, and what those that were killed said.

    Stands for one server where it does not matter which is asked.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self.running: list[Server] = []
        self.logs: list[Path] = []
        self._asked = 0
        for _ in range(FRONTS):
            self.add()

    def add(self) -> None:
        """Start another."""
        options = ("--database", self._url, "--lease", str(LEASE), "--batch-rows", "1")
        server = Server(self._folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"})
        server.log = self._folder / f"front-{len(self.logs)}.log"
        self.logs.append(server.log)
        server.start()
        self.running.append(server)

    def kill(self, server: Server) -> None:
        """`kill -9`."""
        self.running.remove(server)
        server.kill()

    def stop(self) -> None:
        """Stop all."""
        for server in self.running:
            assert server.stop() == 0

    @property
    def url(self) -> str:
        """Of each front in turns."""
        self._asked += 1
        return self.running[self._asked % len(self.running)].url

    def post(self, path: str, **fields: Any) -> Any:
        return self.running[0].post(path, **fields)

    def get(self, path: str, **options: Any) -> Any:
        return self.running[-1].get(path, **options)

    def finished(self, job: str) -> dict[str, Any]:
        return self.running[-1].finished(job, 120)

    def counted(self, message: str) -> collections.Counter[str]:
        """How often the fronts, those that were killed too, said something of each job."""
        servers = [Server(self._folder / "state") for _ in self.logs]
        for server, log in zip(servers, self.logs, strict=True):
            server.log = log
        return collections.Counter(
            line["job"] for s in servers for line in s.lines() if line["message"] == message
        )


def fronts(folder: Path, quick: bool) -> Figures:
    """Kill a front so many times, each at a random moment, and start another in its place."""
    times, random_ = 3 if quick else 10, random.Random(1)
    figures = Figures(f"a front of {FRONTS} killed {times} times, the built-in checkpoint")
    with postgres() as server:
        url = server.new_database()
        served: Any = Fronts(folder, url)
        try:
            clients = Clients(served, waiting=5)
            expected = references(served, clients)
            clients.start()
            hit = 0
            try:
                for _ in range(times):
                    time.sleep(random_.uniform(2.0, 6.0))
                    victim = random_.choice(served.running)
                    hit += bool(victim.get("/health").json()["playing"])
                    served.kill(victim)
                    served.add()
            finally:
                clients.stop()
            _settle(served, clients, expected, url, figures)
        finally:
            served.stop()
    figures.add("fronts killed, of them while they played", f"{times}, {hit}")
    return figures


def _settle(
    served: Any,
    clients: Clients,
    expected: dict[tuple[int, int], str],
    url: str,
    figures: Figures,
) -> None:
    """When all jobs are over: each has ended once, and sounds as it must."""
    failed = 0
    for job, which in clients.accepted.items():
        poll = served.finished(job)
        if poll["status"] == "completed":
            assert digest(served, job) == expected[which], "not the music that was asked for"
        else:
            assert GIVEN_UP in poll["error"], poll["error"]
            failed += 1
    with database(url) as opened:
        rows = opened.rows("SELECT id, state, attempts, deaths FROM jobs ORDER BY number")
    extra = len(rows) - len(clients.accepted) - len(expected)
    assert 0 <= extra <= clients.unanswered, "jobs that nobody asked for"
    for row in rows:
        folders = [path.name for path in served.running[0].state.glob(f"jobs/{row['id']}/*")]
        kept = [str(row["attempts"])] if row["state"] == "completed" else []
        assert folders == kept, "doubled, or lost"
    assert max(served.counted("job done").values()) == 1, "a job was completed twice"
    figures.add("jobs accepted", len(clients.accepted))
    figures.add("completed once, with the very samples", len(clients.accepted) - failed)
    figures.add("given up after three ends of a front", failed)
    figures.add("jobs that a front's end interrupted", sum(row["deaths"] > 0 for row in rows))
    figures.add("lost, doubled, or other than asked for", 0)
    figures.add("requests cut off unanswered (became jobs)", f"{clients.unanswered} ({extra})")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.postgres.soak")
    parser.add_argument("--quick", action="store_true", help="a short form")
    options = parser.parse_args()
    say(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}")
    with tempfile.TemporaryDirectory(prefix="segue-soak-") as folder:
        began = time.monotonic()
        figures = fronts(Path(folder), options.quick)
        say(f"\n{figures}\n  ({time.monotonic() - began:.0f} s)")
    say("everything was as it must be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
