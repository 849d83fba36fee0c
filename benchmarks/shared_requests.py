"""Requests at once, in shared steps, beside the same requests one after the other.

    python -m benchmarks.shared_requests --engine openvino --requests 4

Both are whole continuations, of prompts of one length, in turns in the same run, with the built-in
checkpoint unless told otherwise.  What counts is when the last one is done, and on average how long
each took from when all were sent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Sequence

import segue
from segue.continuation import Request, continue_audio
from segue.demo.prompt import band
from segue.engine.base import Engine
from segue.engine.shared import SharedEngine
from segue.model import ENGINES

TEXTS = ("drums", "piano and strings", "slow", "a bass")


def in_turn(engine: Engine, requests: Sequence[Request]) -> list[float]:
    """Seconds until each of the requests is done, one after the other."""
    start, done = time.perf_counter(), []
    for request in requests:
        continue_audio(engine, request)
        done.append(time.perf_counter() - start)
    return done


class Together:
    """Threads that run a request each, all at once; they stay, as a service's do.

    Args:
        engine: whose steps they share.
        count: how many.
    """

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._requests: Sequence[Request] = ()
        self._done: dict[int, float] = {}
        self._begin, self._end = threading.Barrier(count + 1), threading.Barrier(count + 1)
        for n in range(count):
            threading.Thread(target=self._run, args=(n,), daemon=True).start()

    def _run(self, n: int) -> None:
        while True:
            self._begin.wait()
            continue_audio(self._engine, self._requests[n])
            self._done[n] = time.perf_counter()
            self._end.wait()

    def run(self, requests: Sequence[Request]) -> list[float]:
        """Seconds until each of the requests is done."""
        self._requests = requests
        start = time.perf_counter()
        self._begin.wait()
        self._end.wait()
        return [self._done[n] - start for n in range(len(requests))]


def main() -> None:
    """Measure, and print JSON."""
    name = "python -m benchmarks.shared_requests"
    parser = argparse.ArgumentParser(description=__doc__, prog=name)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--recipe", help="a quantization, such as q8")
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--rows", type=int, help="of the batch (default: all fit)")
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--texts", action="store_true", help="with a description, so two rows each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = segue.load(options.model, engine=options.engine, recipe=options.recipe)
    audio = band()
    requests = [
        Request(
            audio,
            prompt_seconds=6,
            output_seconds=options.seconds,
            seed=n,
            text=TEXTS[n % len(TEXTS)] if options.texts else "",
        )
        for n in range(options.requests)
    ]
    rows = options.rows or options.requests * (2 if options.texts else 1)
    shared = SharedEngine(model.engine, rows)
    together = Together(shared, len(requests))
    rounds = []
    continue_audio(model.engine, requests[0])  # compiles
    for _ in range(options.rounds):
        one_by_one, at_once = in_turn(model.engine, requests), together.run(requests)
        rounds.append(
            {
                "one by one, all s": one_by_one[-1],
                "at once, all s": max(at_once),
                "one by one, mean s": statistics.mean(one_by_one),
                "at once, mean s": statistics.mean(at_once),
                "times as fast": one_by_one[-1] / max(at_once),
            }
        )
        print(json.dumps({name: round(value, 3) for name, value in rounds[-1].items()}), flush=True)
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    about = {"engine": model.engine.name, "device": model.engine.device, "rows": rows}
    fill = shared.rows_run / shared.steps
    print(json.dumps({**about, "mean rows": round(fill, 2), "median": middle}))


if __name__ == "__main__":
    main()
