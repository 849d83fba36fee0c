"""A thousand clients that poll one front, as the plugin does, while workers play."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ...in_process import InProcess
from ...soak.figures import Figures
from .say import say
from .scaling import submit
from .slept import joined, slept

POLL_SECONDS = 1.0
"""Between two polls of the plugin."""

MOST_SECONDS = 0.2
"""That 99 of 100 answers may take at most."""

_JOBS, _WORKERS = 64, 4


def clients(folder: Path, quick: bool) -> Figures:
    """Have clients poll jobs that run or wait, from a process of their own."""
    count, seconds = (100, 10) if quick else (1000, 60)
    figures = Figures(f"{count} clients that poll one front once in {POLL_SECONDS:.0f} s")
    with joined(cpus=_WORKERS) as address, slept(folder, address, _WORKERS) as running:
        jobs = [submit(running, 240, seed) for seed in range(_JOBS)]
        while sum(_progress(running, job) > 0.03 for job in jobs) < _WORKERS:
            time.sleep(0.1)
        before = time.process_time()
        polled = subprocess.run(
            [sys.executable, "-m", __name__, str(running.port), str(count), str(seconds), *jobs],
            capture_output=True,
            text=True,
            check=False,
        )
        spent = time.process_time() - before
        assert polled.returncode == 0, polled.stderr
        assert running.service.jobs.running == _WORKERS
    found = json.loads(polled.stdout)
    figures.add("polls answered", found["polls"])
    figures.add("refused, cut off or wrong", found["wrong"])
    for name in ("p50", "p90", "p99", "most"):
        figures.add(f"milliseconds, {name}", f"{1000 * found[name]:.1f}")
    figures.add(
        "milliseconds of a processor that the front took for a poll, its jobs included",
        f"{1000 * spent / found['polls']:.2f}",
    )
    figures.add(
        f"processes that wanted a processor meanwhile, of which there were {os.cpu_count()}",
        f"{os.getloadavg()[0]:.1f}",
    )
    say(figures)
    assert not found["wrong"]
    assert found["polls"] >= 0.9 * count * seconds / POLL_SECONDS, "the clients fell behind"
    assert found["p99"] < MOST_SECONDS, "too slow"
    return figures


def _progress(running: InProcess, job: str) -> float:
    view = running.service.jobs.view(job)
    return 0.0 if view is None or view.progress is None else view.progress.fraction


# --- The clients' process -------------------------------------------------------------------------


async def _client(port: int, job: str, n: int, count: int, end: float, took: list[float]) -> int:
    """Poll over one connection that stays; how many answers were wrong."""
    await asyncio.sleep(POLL_SECONDS * n / count)
    wrong = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/juce/poll_status/{job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    due = time.monotonic()
    while due < end:
        began = time.monotonic()
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        body = await reader.readexactly(length)
        took.append(time.monotonic() - began)
        wrong += not (answer.startswith(b"HTTP/1.1 200") and b'"success":true' in body)
        due = max(due + POLL_SECONDS, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
    writer.close()
    return wrong


async def _poll(port: int, count: int, seconds: float, jobs: list[str]) -> dict[str, float]:
    end, took = time.monotonic() + seconds, list[float]()
    each = [_client(port, jobs[n % len(jobs)], n, count, end, took) for n in range(count)]
    wrong = sum(await asyncio.gather(*each))
    cuts = statistics.quantiles(took, n=100)
    return {
        "polls": len(took),
        "wrong": wrong,
        "p50": cuts[49],
        "p90": cuts[89],
        "p99": cuts[98],
        "most": max(took),
    }


if __name__ == "__main__":
    port, count, seconds, *jobs = sys.argv[1:]
    say(json.dumps(asyncio.run(_poll(int(port), int(count), float(seconds), jobs))))
