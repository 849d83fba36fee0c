"""An hour's worth of requests in quick succession, and what the processes take meanwhile."""

from __future__ import annotations

import time

import numpy as np

from ..server import Server, encoded, song
from .figures import Figures
from .memory import resident

MOST_MB = {"server": 8.0, "reader": 8.0, "player": 24.0}
"""By which a process may have grown over the rounds that count."""

WARM = 0.3
"""The part of the rounds after which allocators and caches have what they want."""

POLLS, LISTS = 36, 2


def hour(server: Server, rounds: int) -> Figures:
    """In every round a short job, polls and lists of models; 100 rounds are an hour of both."""
    figures = Figures(f"an hour's requests at once: {rounds} rounds")
    audio = encoded(song(2.0, 44_100, 2))
    seen: dict[str, list[float]] = {role: [] for role in MOST_MB}
    began, polls = time.monotonic(), 0
    for n in range(rounds):
        answer = server.post(
            "/api/jobs", audio_data=audio, prompt_seconds=1, output_seconds=2 + n % 2, seed=n
        )
        job = answer.json()["job_id"]
        for _ in range(POLLS):
            polls += 1
            assert server.poll(job)["success"] is True
        for _ in range(LISTS):
            assert server.get("/api/models").status_code == 200
        assert server.finished(job)["status"] == "completed"
        (reader,), (player,) = server.workers("reader"), server.workers("player")
        for role, pid in (("server", server.process.pid), ("reader", reader), ("player", player)):
            seen[role].append(resident(pid))
    took = time.monotonic() - began
    figures.add("polls, model lists, jobs", f"{polls}, {rounds * LISTS}, {rounds}")
    figures.add("seconds", f"{took:.0f}")
    for role, sizes in seen.items():
        counted = np.array(sizes[round(WARM * rounds) :])
        slope = np.polyfit(np.arange(len(counted)), counted, 1)[0]
        grown = slope * len(counted)
        figures.add(
            role,
            f"{sizes[0]:.1f} MB at first, {max(sizes):.1f} MB at most, {sizes[-1]:.1f} MB at last; "
            f"{slope:+.3f} MB a round, {grown:+.1f} MB over the last {len(counted)}",
        )
        assert grown < MOST_MB[role], f"the {role} grows: {grown:.1f} MB"
    figures.add("may grow by", ", ".join(f"{role} {mb:g} MB" for role, mb in MOST_MB.items()))
    return figures
