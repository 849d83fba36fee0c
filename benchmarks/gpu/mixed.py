"""Different requests in one batch beside as many takes of one request.

    python -m benchmarks.gpu.mixed --shape small --requests 64

All takes of one request begin together and are alike, so nothing is faster than running them side
by side.  The requests differ in seed, text, guidance and length, and join at random times.  What is
compared is rows a second: a row is one stream of one take, so a guided request has two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from segue.checkpoints.recipe import Recipe
from segue.engine.base import Sampling, rows_of
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.turns import synchronize
from segue.pattern import UNKNOWN, delay

from . import shapes
from .segue_row import BITS

FRAMES = 50
"""Of a second."""

WORDS = ("drums", "piano", "bass", "strings", "fast", "slow", "minor")


@dataclass(frozen=True)
class Asked:
    """A request: the arguments of `Engine.prefill`, and when it joins."""

    frames: int
    seeds: tuple[int, ...]
    sampling: Sampling
    text: str
    joins_at: int = 0

    @property
    def rows(self) -> int:
        """Of the batch."""
        return rows_of(self.seeds, self.sampling)


class Bench:
    """One engine, and prompts for it.

    Args:
        shape: one of `shapes.DECODERS`.
        weights: one of `BITS`.
        prompt: frames of each request's prompt.
        kernels: whether CUDA's kernels run.
    """

    def __init__(self, shape: str, weights: str, prompt: int, kernels: bool) -> None:
        mx.set_cache_limit(shapes.CACHE_BYTES)
        bits = BITS[weights]
        recipe = Recipe("decoder-linears", bits, 64 if shape != "toy" else 32) if bits else None
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = shapes.checkpoint(shape, Path(folder))
            execution = Execution.here(checkpoint.config.lm.head_dim)
            if not kernels:
                execution = replace(execution, kernels=frozenset())
            self.engine = MLXEngine(checkpoint, recipe=recipe, execution=execution)
            self.engine.read_weights()
            self.engine.condition("drums")
        self._prompt = prompt

    def arguments(self, asked: Asked) -> tuple[Any, ...]:
        """Those of `Engine.prefill`."""
        lm = self.engine.config.lm
        shape = lm.num_codebooks, self._prompt + asked.frames
        codes = np.full(shape, UNKNOWN, np.int32)
        random = np.random.default_rng(asked.seeds[0])
        codes[:, : self._prompt] = random.integers(
            0, lm.cardinality, (lm.num_codebooks, self._prompt)
        )
        text = self.engine.condition(asked.text) if asked.text else None
        sequence = delay(codes, lm.delays, lm.special_token)[None]
        return sequence, asked.seeds, asked.sampling, text

    def takes(self, asked: Asked) -> dict[str, float]:
        """Run one request of many takes."""
        start = time.perf_counter()
        columns = self.engine.prefill(*self.arguments(asked))
        first = time.perf_counter()
        count = sum(1 for _ in columns)
        end = time.perf_counter()
        return {
            "rows": asked.rows,
            "steps": count,
            "ms a step": 1000 * (end - first) / count,
            "rows a second": asked.rows * count / (end - start),
            "rows a second, steps alone": asked.rows * count / (end - first),
        }

    def mixed(self, requests: list[Asked], max_rows: int) -> dict[str, Any]:
        """Run many requests in one batch; each joins when its step has come and there is room."""
        batch, waiting = self.engine.batch(max_rows), sorted(requests, key=lambda r: r.joins_at)
        members: dict[Asked, Any] = {}
        pauses, full, fill, step, work = [], [], [], 0, 0
        # From when it is first full until the last has joined: without the way up and down.
        busy_from: tuple[float, int] | None = None
        busy = (0.0, 0)
        begin = time.perf_counter()
        while waiting or any(member.left for member in members.values()):
            while waiting and (waiting[0].joins_at <= step or batch.rows == 0):
                if batch.rows + waiting[0].rows > max_rows:
                    break
                asked = waiting.pop(0)
                arguments = self.arguments(asked)
                before = time.perf_counter()
                members[asked] = batch.join(*arguments)
                pauses.append(time.perf_counter() - before)
            rows, before = batch.rows, time.perf_counter()
            batch.step()
            if rows > 0.9 * max_rows:
                full.append(time.perf_counter() - before)
            fill.append(rows)
            work += rows
            step += 1
            if rows > 0.9 * max_rows and busy_from is None:
                busy_from = time.perf_counter(), work
            if waiting and busy_from is not None:
                busy = time.perf_counter() - busy_from[0], work - busy_from[1]
        synchronize()
        seconds = time.perf_counter() - begin
        return {
            "rows": max_rows,
            "requests": len(requests),
            "steps": step,
            "mean rows": statistics.mean(fill),
            "ms a step": 1000 * seconds / step,
            # Reading waits for some steps at once, so that a median would leave the waiting out.
            "ms a step, full": 1000 * statistics.mean(full) if full else None,
            "pause ms, median": 1000 * statistics.median(pauses),
            "pause ms, longest": 1000 * max(pauses),
            "pauses s": sum(pauses),
            "rows a second": work / seconds,
            "rows a second, full": busy[1] / busy[0] if busy[1] else None,
            "columns": {asked: list(member.columns) for asked, member in members.items()},
        }

    def agreement(self, found: dict[Asked, list[Any]], count: int) -> dict[str, Any]:
        """How the columns of some requests are those that they have alone."""
        equal, first = [], []
        for asked in list(found)[:: max(1, len(found) // count)]:
            alone = np.array(list(self.engine.prefill(*self.arguments(asked))))
            same = (alone == np.array(found[asked])).all(axis=(1, 2))
            equal.append(bool(same.all()))
            first.append(len(same) if same.all() else int(same.argmin()))
        return {"equal": sum(equal), "of": len(equal), "columns until one differs": first}


def requests_of(count: int, frames: int, options: argparse.Namespace) -> list[Asked]:
    """Requests that differ in everything; half are guided, half of those with a text."""
    random = np.random.default_rng(0)
    found = []
    for n in range(count):
        guided = options.guided and n % 2 == 1
        text = " ".join(random.choice(WORDS, random.integers(1, 12))) if n % 4 == 1 else ""
        sampling = Sampling(250, float(random.choice([0.8, 1.0, 1.2])), 3.0 if guided else None)
        length = int(frames * random.uniform(0.5, 1.0))
        joins = int(random.uniform(0, options.spread) * frames)
        found.append(Asked(length, (n,), sampling, text if options.texts else "", joins))
    return found


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.gpu.mixed")
    parser.add_argument("--shape", choices=tuple(shapes.DECODERS), default="small")
    parser.add_argument("--weights", choices=tuple(BITS), default="float16")
    parser.add_argument("--requests", type=int, default=192, help="in all")
    parser.add_argument("--rows", type=int, default=64, help="of the batch")
    parser.add_argument("--prompt", type=float, default=6, help="seconds")
    parser.add_argument("--seconds", type=float, default=18, help="prompt and continuation")
    parser.add_argument("--spread", type=float, default=1.0, help="of joining, in lengths")
    parser.add_argument("--no-guidance", dest="guided", action="store_false")
    parser.add_argument("--no-texts", dest="texts", action="store_false")
    parser.add_argument("--no-kernels", dest="kernels", action="store_false")
    parser.add_argument("--rounds", type=int, default=2, help="of which the first warms up")
    parser.add_argument("--compare", type=int, default=4, help="requests that run alone, too")
    parser.add_argument("--out", type=Path, help="where the same goes as JSON")
    options = parser.parse_args()
    prompt = round(options.prompt * FRAMES)
    frames = round((options.seconds - options.prompt) * FRAMES)
    bench = Bench(options.shape, options.weights, prompt, options.kernels)
    about = {
        "shape": options.shape,
        "weights": options.weights,
        "device": bench.engine.device,
        "kernels": sorted(bench.engine.kernels),
    }
    requests = requests_of(options.requests, frames, options)
    takes = Asked(frames, tuple(range(options.rows)), Sampling(250), "")
    rounds = []
    for n in range(options.rounds):
        alike = bench.takes(takes)
        found = bench.mixed(requests, options.rows)
        columns = found.pop("columns")
        for what in ("", ", full"):
            if (rate := found[f"rows a second{what}"]) is not None:
                found[f"of the takes' rows a second{what}"] = rate / alike["rows a second"]
        rounds.append({"takes": alike, "mixed": found})
        print(json.dumps({"round": n, **rounds[-1]}), flush=True)
        if n == options.rounds - 1 and options.compare:
            about["alone"] = bench.agreement(columns, options.compare)
    about["peak GB"] = mx.get_peak_memory() / 1e9
    print(json.dumps(about), flush=True)
    if options.out:
        options.out.write_text(json.dumps({**about, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
