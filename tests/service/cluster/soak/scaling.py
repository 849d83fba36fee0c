"""Throughput with 1 to 16 workers, each of which sleeps through its steps."""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

from ...in_process import InProcess
from ...server import encoded, song
from ...soak.figures import Figures
from .say import say
from .slept import STEP_SECONDS, joined, slept

LEAST = 0.9
"""Of linear."""

STEPS_A_SECOND = 50
"""Of music, with MusicGen's codec and the toy's."""

_ROUNDS = 3
"""Jobs of each worker, one after the other."""


def scaling(folder: Path, quick: bool) -> Figures:
    """Measure how many seconds of music a second so many workers make."""
    counts = (1, 4) if quick else (1, 2, 4, 8, 16)
    figures = Figures(
        f"throughput of workers whose step is slept ({1000 * STEP_SECONDS:.0f} ms), toy checkpoint"
    )
    rates: list[tuple[int, float]] = []
    with joined(cpus=max(counts)) as address:
        for n, count in enumerate((*counts, 1)):  # one worker again at the end: a machine drifts
            with slept(folder / str(n), address, count) as running:
                rates.append((count, _rate(running, count)))
            say(*rates[-1])
    one = statistics.mean(rate for count, rate in rates if count == 1)
    for count, rate in rates:
        share, bound = rate / count / one, rate / count * STEPS_A_SECOND * STEP_SECONDS
        said = f"{rate:.3f} s of music a second, {share:.2f} of linear"
        figures.add(f"{count} workers", f"{said}, {bound:.2f} of what the sleep allows")
    figures.add("processes that wanted a processor at the end", f"{os.getloadavg()[0]:.1f}")
    say(figures)
    shares = [rate / count / one for count, rate in rates if count > 1]
    assert min(shares) >= LEAST, f"less than {LEAST} of linear"
    return figures


def _rate(running: InProcess, count: int) -> float:
    """Seconds of new music a second, when every worker has its model loaded."""
    _play(running, count, seconds=1.2)
    while running.service.pool.alive < count:
        _play(running, count, seconds=1.2)
    began = time.monotonic()
    music = _play(running, _ROUNDS * count, seconds=3)
    return music / (time.monotonic() - began)


def _play(running: InProcess, jobs: int, seconds: float) -> float:
    """Run jobs to their ends; how much music they made."""
    left = [submit(running, seconds, seed) for seed in range(jobs)]
    while left:
        job = running.service.store.job(left[0])
        assert job is not None
        assert job.state in ("queued", "running", "completed"), job.error
        if job.state == "completed":
            left.pop(0)
        else:
            time.sleep(0.02)
    return jobs * (seconds - 1)


def submit(running: InProcess, seconds: float, seed: int) -> str:
    """Ask for so many seconds, of which the first is given; the job's id."""
    fields = {
        "audio_data": encoded(song(1.0, 22_050, 1), 22_050),
        "model_name": f"local/{Path(running.service.settings.models[0]).name}",
        "prompt_seconds": 1,
        "output_seconds": seconds,
        "seed": seed,
    }
    body = json.dumps(fields).encode()
    head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    status, _, content = running.send(head.encode(), body)
    assert status == 202, content
    return str(json.loads(content)["job_id"])
