"""What a cluster would bear that nobody has: a simulation of its busiest minutes.

    python -m benchmarks.cluster_simulation [--clients-a-day N] [--gpus N ...] [--card h100]

Jobs arrive at random at the rate of the day's busiest hour, and wait in one queue for a row of a
batch.  A card takes longer for a step the more rows it has: the times are those that were measured
on one card (docs/performance.md).  That many cards do as much as each alone is an assumption, as
are the habits of clients; all of them are printed.  One seed, one result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

STEPS_PER_SECOND = 50
"""Frames of MusicGen's codec."""

TICK = 0.1
"""Seconds of the simulation's clock."""


@dataclass(frozen=True)
class Card:
    """What was measured on one card, MusicGen small in float16: docs/performance.md.

    Attributes:
        rows: of a batch, ascending.
        step_ms: a step of so many rows.
        takes_s: 64 takes of 24 s from one prompt, end to end.
        mixed: rows a second of requests that differ, beside takes of one.
    """

    rows: tuple[int, ...]
    step_ms: tuple[float, ...]
    takes_s: float
    mixed: float

    def step_seconds(self) -> np.ndarray:
        """Seconds of a step of 0 to 64 different rows `(65,)`, their codec's work included."""
        most = self.rows[-1]
        codec = self.takes_s - 24 * STEPS_PER_SECOND * self.step_ms[-1] / 1000
        of_a_row = codec / (most * 24 * STEPS_PER_SECOND)
        rows = np.arange(most + 1)
        return np.interp(rows, self.rows, self.step_ms) / 1000 / self.mixed + rows * of_a_row

    def most(self) -> float:
        """Seconds of audio a second that a full batch of different requests comes to."""
        return float(self.rows[-1] / (STEPS_PER_SECOND * self.step_seconds()[-1]))


CARDS = {
    "h100": Card((1, 8, 16, 32, 64), (0.53, 0.89, 1.01, 1.58, 2.61), 4.02, 0.89),
    "h200": Card((1, 8, 16, 32, 64), (0.49, 0.77, 0.87, 1.39, 2.33), 3.66, 0.93),
}


@dataclass(frozen=True)
class Assumptions:
    """What nobody measured.

    Attributes:
        clients: a day.
        jobs: of a client a day.
        seconds: of audio that a job generates, evenly spread between the two.
        peak: the busiest hour's rate, the day's mean being 1.
        losses: of a card, a day; what it plays is queued again in its old place.
        away: seconds until a card that was lost is back.
        upload_mb, result_mb: of a job, through the front.
        polls: of a job that waits or runs, a second.
        poll_ms: of a processor of the front, measured by `make soak-cluster`.
    """

    clients: float = 1e6
    jobs: float = 4.0
    seconds: tuple[float, float] = (12.0, 36.0)
    peak: float = 1.8
    losses: float = 1 / 30
    away: float = 600.0
    upload_mb: float = 1.4
    result_mb: float = 5.3
    polls: float = 1.0
    poll_ms: float = 0.77

    @property
    def arrivals(self) -> float:
        """Jobs a second in the busiest hour."""
        return self.clients * self.jobs * self.peak / 86_400


@dataclass(frozen=True)
class Outcome:
    """What was seen.

    Attributes:
        arrived, completed, unfinished: jobs.
        again: how often a job was queued again since its card was lost.
        waits, times: seconds of jobs that came after the warm-up: until they began, and in all.
        busy: cards that had work, on average.
        rows: of a card that had work, on average.
        in_flight: jobs that waited or ran, on average.
        audio: seconds generated a second.
    """

    arrived: int
    completed: int
    unfinished: int
    again: int
    waits: np.ndarray
    times: np.ndarray
    busy: float
    rows: float
    in_flight: float
    audio: float


def simulate(
    card: Card,
    gpus: int,
    assumed: Assumptions,
    seconds: float = 240.0,
    warm_up: float = 60.0,
    seed: int = 1,
) -> Outcome:
    """Run the busiest minutes of a day.

    Args:
        card: of which there are `gpus`.
        gpus: cards.
        assumed: the rest.
        seconds: that are simulated, beyond the warm-up.
        warm_up: seconds of which only jobs are counted.
        seed: of arrivals, lengths and losses.
    """
    random = np.random.default_rng(seed)
    step, room = card.step_seconds(), card.rows[-1]
    left = np.zeros((gpus, room))  # seconds of audio that a row has yet to generate
    job = np.full((gpus, room), -1)  # that it belongs to
    back = np.zeros(gpus)  # when a card is there again
    capacity = int((warm_up + seconds) * assumed.arrivals * 1.5) + 1000
    came, length = np.zeros(capacity), np.zeros(capacity)
    began, ended = np.full(capacity, np.nan), np.full(capacity, np.nan)
    arrived, following, again = 0, 0, 0
    lost: list[int] = []  # in front of all others
    busy = rows_used = in_flight = audio = 0.0
    ticks, warm = round((warm_up + seconds) / TICK), round(warm_up / TICK)
    for tick in range(ticks):
        now = tick * TICK
        new = int(random.poisson(assumed.arrivals * TICK))
        came[arrived : arrived + new] = now
        length[arrived : arrived + new] = random.uniform(*assumed.seconds, new)
        arrived += new
        for gpu in np.flatnonzero(random.random(gpus) < assumed.losses * TICK / 86_400):
            held = job[gpu][job[gpu] >= 0]
            again += len(held)
            lost = sorted([*lost, *held.tolist()])
            left[gpu], job[gpu], back[gpu] = 0, -1, now + assumed.away
        wanted = len(lost) + arrived - following
        if wanted:
            # In the order of cards, so that a batch is filled before another one begins.
            free = np.flatnonzero((job < 0) & (back <= now)[:, None])[:wanted]
            first, lost = lost[: len(free)], lost[len(free) :]
            fresh = np.arange(following, following + len(free) - len(first))
            following += len(fresh)
            begun = np.concatenate([np.array(first, dtype=int), fresh])
            job.flat[free], left.flat[free] = begun, length[begun]
            began[fresh] = now
        rows = (job >= 0).sum(axis=1)
        made = np.where(rows > 0, TICK / (STEPS_PER_SECOND * step[rows]), 0.0)
        if tick >= warm:
            busy += (rows > 0).sum()
            rows_used += rows.sum()
            in_flight += rows.sum() + arrived - following + len(lost)
            audio += (np.minimum(left, made[:, None]) * (job >= 0)).sum()
        left -= made[:, None]
        over = (job >= 0) & (left <= 0)
        ended[job[over]] = now + TICK
        job[over] = -1
    counted = (came[:arrived] >= warm_up) & ~np.isnan(ended[:arrived])
    completed = int((~np.isnan(ended[:arrived])).sum())
    measured = ticks - warm
    return Outcome(
        arrived=arrived,
        completed=completed,
        unfinished=int((job >= 0).sum()) + arrived - following + len(lost),
        again=again,
        waits=(began - came)[:arrived][counted],
        times=(ended - came)[:arrived][counted],
        busy=busy / measured,
        rows=rows_used / max(busy, 1),
        in_flight=in_flight / measured,
        audio=audio / (measured * TICK),
    )


HEAD = (
    "    GPUs   clients   audio s/s   of the   cards   rows of   wait, s    in all, s   jobs in"
    "    front:       front:\n"
    "             a day     at peak     most    busy    a card       p99   p50    p99    flight"
    "   processors   MB a second"
)


def line(card: Card, gpus: int, assumed: Assumptions, seed: int) -> str:
    """A line of the table."""
    seen = simulate(card, gpus, assumed, seed=seed)
    if seen.arrived != seen.completed + seen.unfinished:
        raise AssertionError(f"{seen.arrived} jobs came, and not all are accounted for")
    wait = np.percentile(seen.waits, 99) if len(seen.waits) else np.nan
    half, most = np.percentile(seen.times, [50, 99]) if len(seen.times) else (np.nan, np.nan)
    processors = seen.in_flight * assumed.polls * assumed.poll_ms / 1000
    through = assumed.arrivals * (assumed.upload_mb + assumed.result_mb)
    kept = seen.unfinished - seen.in_flight < 0.2 * seen.in_flight + 50
    return (
        f"{gpus:8,}{assumed.clients:10.3g}{seen.audio:12,.0f}"
        f"{seen.audio / (gpus * card.most()):9.0%}{seen.busy:8,.0f}{seen.rows:10.1f}"
        f"{wait:10.1f}{half:6.1f}{most:7.1f}{seen.in_flight:10,.0f}"
        f"{processors:13.2f}{through:14,.0f}" + ("" if kept else "   the queue grows")
    )


def assumptions(name: str, card: Card, assumed: Assumptions) -> str:
    """What the table rests on, for people."""
    low, high = assumed.seconds
    return (
        f"Measured on one {name.upper()}: a step of {card.rows} rows takes {card.step_ms} ms, 64 "
        f"takes of 24 s {card.takes_s} s\n({int(64 * 24 / card.takes_s)} s of audio a second); "
        f"requests that differ have {card.mixed} of that, so a card makes at most "
        f"{card.most():.0f} s a second.\n"
        f"Measured on a front: {assumed.poll_ms} ms of a processor a poll.\n"
        f"Assumed: cards do not slow each other down; every client wants MusicGen small, without "
        f"text,\n{assumed.jobs:g} jobs a day of {low:g} to {high:g} s; the busiest hour has "
        f"{assumed.peak:g} times the mean; {assumed.polls:g} poll a second;\n"
        f"{assumed.upload_mb:g} MB come and {assumed.result_mb:g} MB go with a job; a card is lost "
        f"once in {1 / assumed.losses:.0f} days for {assumed.away / 60:.0f} minutes; one queue, "
        f"{card.rows[-1]} rows a card\n(--batch-rows {card.rows[-1]}); starts of workers, loading "
        "and the network take no time; what a front does besides polls takes none."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_simulation")
    parser.add_argument("--card", choices=CARDS, default="h100", help="whose figures are taken")
    parser.add_argument("--gpus", type=int, nargs="+", help="cards; with --clients-a-day")
    parser.add_argument("--clients-a-day", type=float, default=1e6)
    parser.add_argument("--jobs", type=float, default=Assumptions.jobs, help="of a client a day")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    card = CARDS[options.card]
    base = Assumptions(clients=options.clients_a_day, jobs=options.jobs)
    if options.gpus:
        cases = [(gpus, base.clients) for gpus in options.gpus]
    else:
        million = [(gpus, 1e6) for gpus in (5, 6, 7, 8, 10, 20)]
        cases = [*million, (100, 1e7), (1000, 1e6), (1000, 1e8), (1000, 1.5e8)]
    print(assumptions(options.card, card, base), end=f"\n\n{HEAD}\n")
    for gpus, clients in cases:
        print(line(card, gpus, replace(base, clients=clients), options.seed), flush=True)


if __name__ == "__main__":
    main()
