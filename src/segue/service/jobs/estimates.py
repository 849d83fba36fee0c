"""How long it will take, learned from how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .store import Store

FRESH = 0.3
"""How much the last run counts against all before it."""

UNKNOWN_RATE, UNKNOWN_LOAD = 1.0, 10.0
"""Before anything was learned: real time, and ten seconds to load."""


@dataclass(frozen=True)
class Estimate:
    """Seconds that a job takes.

    Attributes:
        load: to load the model, if it is not loaded.
        play: all that comes then.
    """

    load: float
    play: float


class Estimates:
    """What the store has learned, by model and quantization."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = store.speeds()

    def of(self, asked: dict[str, Any]) -> Estimate:
        """What a job will take."""
        key = _key(asked)
        rate = self._learned("play", key, UNKNOWN_RATE)
        load = self._learned("load", key, UNKNOWN_LOAD)
        return Estimate(load, rate * _new_seconds(asked))

    def _learned(self, what: str, key: str, unknown: float) -> float:
        if (found := self._known.get(f"{what} {key}")) is not None:
            return found[0]
        # Another model's is a better guess than none.
        others = [seconds for name, (seconds, _) in self._known.items() if name.startswith(what)]
        return sum(others) / len(others) if others else unknown

    def learn(self, asked: dict[str, Any], load_s: float | None, play_s: float) -> None:
        """A job is done."""
        key = _key(asked)
        measured = {f"play {key}": play_s / max(0.02, _new_seconds(asked))}
        if load_s is not None:
            measured[f"load {key}"] = load_s
        for name, seconds in measured.items():
            before, count = self._known.get(name, (seconds, 0))
            self._known[name] = (before + FRESH * (seconds - before), count + 1)
        self._store.learn({name: self._known[name] for name in measured})


def _key(asked: dict[str, Any]) -> str:
    return f"{asked['model']} {asked['quantization']} {asked['request']['variations']}"


def _new_seconds(asked: dict[str, Any]) -> float:
    request = asked["request"]
    return float(max(0.02, request["output_seconds"] - request["prompt_seconds"]))
