"""How long jobs take, estimated from how long earlier ones took."""

from __future__ import annotations

from dataclasses import dataclass

from .progress import JobProgress
from .spec import JobSpec
from .store import Store

WEIGHT = 0.3
"""Of the last run, against all before it."""

UNKNOWN_RATE, UNKNOWN_LOAD = 1.0, 10.0
"""Before any run: real time, and ten seconds to load."""

_LEAST_SECONDS = 0.02
"""Of music that a job generates: one frame of the codec."""


@dataclass(frozen=True)
class Estimate:
    """Seconds that a job takes.

    Attributes:
        load: to load the model, if it is not loaded.
        generate: everything after that.
    """

    load: float
    generate: float

    def left(self, progress: JobProgress) -> float:
        """Seconds until a running job is done."""
        if progress.generating_since is None:
            return self.load + self.generate
        taken = progress.clock() - progress.generating_since
        if progress.fraction > 0.1:  # this run says more than those before it
            return taken * (1 - progress.fraction) / progress.fraction
        return max(0.0, self.generate - taken)


class Estimates:
    """What earlier runs took, by model, quantization and number of takes.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = store.speeds.all()

    def of(self, spec: JobSpec) -> Estimate:
        """Estimate a job."""
        key = _key(spec)
        rate = self._learned("play", key, UNKNOWN_RATE)
        load = self._learned("load", key, UNKNOWN_LOAD)
        return Estimate(load, rate * _new_seconds(spec))

    def _learned(self, what: str, key: str, unknown: float) -> float:
        if (found := self._known.get(f"{what} {key}")) is not None:
            return found[0]
        # Another model's is a better guess than none.
        others = [seconds for name, (seconds, _) in self._known.items() if name.startswith(what)]
        return sum(others) / len(others) if others else unknown

    def learn(self, spec: JobSpec, load_s: float | None, play_s: float) -> None:
        """Learn from a job that is done.

        Args:
            spec: of the job.
            load_s: seconds that loading the model took; None if it was loaded.
            play_s: seconds that everything after that took.
        """
        key = _key(spec)
        measured = {f"play {key}": play_s / _new_seconds(spec)}
        if load_s is not None:
            measured[f"load {key}"] = load_s
        for name, seconds in measured.items():
            before, count = self._known.get(name, (seconds, 0))
            self._known[name] = (before + WEIGHT * (seconds - before), count + 1)
        self._store.speeds.learn({name: self._known[name] for name in measured})


def _key(spec: JobSpec) -> str:
    return f"{spec.model} {spec.quantization.mode} {spec.variations}"


def _new_seconds(spec: JobSpec) -> float:
    return max(_LEAST_SECONDS, spec.new_seconds)
