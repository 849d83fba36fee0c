"""Distillation: a quantized model's grids and norms, trained to the distributions of its origin.

The integers stay.  What is lost is measured on music that was held out, before, during and after:
what lost least there is kept, and it may be what there was.  The number of steps is given, and time
decides nothing, so that one seed is one result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..checkpoints.arrays import DTYPES, in_type, read_array
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import LMConfig, QuantizationParams
from ..checkpoints.load_report import LoadReport
from ..checkpoints.quantize import quantized
from ..checkpoints.recipe import DISTILL_STEPS, DISTILLED, METHODS, Recipe
from ..checkpoints.tensors import Tensors
from ..errors import RequestError
from ..progress import SILENT, Progress
from .calibration import HELD_OUT, CalibrationSet, TextCodes, Window
from .distilling_cache import DistillingCache
from .evaluation import Distributions, divergence
from .gradients import divergence_and_gradients
from .methods import KINDS, VERSIONS, Calibrated, Parts
from .sensitivity import kept
from .trainables import Adam, Arrays, Grids, Vector
from .weights import Weight, weights_of
from .windows import Windows

BATCH = 2
"""Windows of a step."""

WARM_UP = 0.05
"""Of the steps, in which the learning rate grows to its greatest; then it falls as a cosine."""

JUDGED = 8
"""Times that what is held out is looked at, evenly over the steps; the state is kept then too."""


def distilled(
    checkpoint: Checkpoint,
    recipe: Recipe,
    start: Calibrated,
    music: CalibrationSet,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    cache: Path | None = None,
) -> Calibrated:
    """Train what another method has chosen; what is returned reads the result from the cache.

    Args:
        checkpoint: opened; its tensors stay in it.
        recipe: what is quantized, and how; its method ends in distillation.
        start: the method before it, which has looked at the same music.
        music: to train on, and held-out music to choose by.  Where none is held out, an eighth of
            it is; where it is too little for that, the choice is by all of it, and a note says so.
        cast_dtype: see `segue.checkpoints.quantize.quantized`.
        progress: shown while it runs.
        cache: where states and results are kept; None is segue's cache.

    Raises:
        RequestError: the checkpoint is quantized already, or there is no music; the cache cannot
            be written.
        ModelOverflowError: what layers make of the music is NaN or infinite.
    """
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    if not music.windows:
        raise RequestError("distillation without music to learn from; name some")
    work = _Work(checkpoint, recipe, start, music, cast_dtype)
    facts = [VERSIONS[recipe.method], cast_dtype, work.steps, work.seed, start.details]
    kept_in = DistillingCache.of(facts, recipe, music, checkpoint.lm, cache)
    result = kept_in.result()
    if result is None:
        work.run(kept_in, progress)
        result = kept_in.result()
        assert result is not None  # noqa: S101 - it was just written
    found, lost = result
    kept_in.sweep()

    def parts(module: str, weight: mx.array, params: QuantizationParams) -> Parts:
        before = start.method(module, weight, params)
        after = {kind: found.get(f"{module}.{kind}") for kind in KINDS[1:]}
        trained = {
            k: mx.array(v).astype(before[k].dtype) for k, v in after.items() if v is not None
        }
        return before | trained

    quantized_parts = tuple(f".{kind}" for kind in KINDS[1:])
    norms = {
        name: in_type(mx.array(values), DTYPES[work.dtype_of(name)])
        for name, values in found.items()
        if not name.endswith(quantized_parts)
    }
    details = {**start.details, "steps": work.steps, "norms": bool(norms), "kl": _rounded(lost)}
    return Calibrated(parts, details, (*start.notes, work.note(lost)), norms)


def base_of(recipe: Recipe) -> Recipe:
    """Return the recipe of the method that distillation begins from."""
    method = recipe.method.removesuffix(DISTILLED)
    music = recipe.calibration if METHODS[method] else None
    return replace(recipe, method=method, calibration=music, distill_steps=None)


@dataclass(eq=False)
class _Work:
    checkpoint: Checkpoint
    recipe: Recipe
    begun: Calibrated
    music: CalibrationSet
    cast_dtype: str | None

    def __post_init__(self) -> None:
        given, music = self.recipe.distill_steps, self.recipe.calibration
        self.steps = DISTILL_STEPS if given is None else given
        self.seed = 0 if music is None else music.seed
        self.windows, self.judges = self.music.windows, self.music.held_out
        if not self.judges and len(self.windows) >= HELD_OUT:
            self.judges = self.windows[HELD_OUT - 1 :: HELD_OUT]
            self.windows = tuple(w for w in self.windows if w not in self.judges)
        self.apart = bool(self.judges)
        self.judges = self.judges or self.windows

    def dtype_of(self, name: str) -> str:
        """The type that a tensor of the checkpoint is stored in, by its name."""
        return self.cast_dtype or self.checkpoint.lm[name].read().dtype.name

    def note(self, lost: Mapping[str, float]) -> str:
        where = f"{len(self.judges)} windows " + (
            "that were held out" if self.apart else "that it was trained on: none were left"
        )
        return (
            f"distilled in {self.steps} steps: {lost['start']:.4g} to {lost['end']:.4g} nats a "
            f"token on {where}, {lost['start_seen']:.4g} to {lost['end_seen']:.4g} on music that "
            "it was trained on"
        )

    def run(self, cache: DistillingCache, progress: Progress) -> None:
        lm = self.checkpoint.config.lm
        texts = TextCodes(self.checkpoint, progress)

        def laid_out(windows: Iterable[Window]) -> Windows:
            chosen = list(windows)
            codes = [window.codes for window in chosen]
            return Windows.of(lm, codes, [texts.of(window.text) for window in chosen])

        student = _Student(self)
        origin = kept(weights_of(self.checkpoint.lm))
        seen = self.windows[:: max(1, len(self.windows) // len(self.judges))]
        windows = laid_out(self.windows)
        began = time.perf_counter()
        with progress.stage("run the model as it is"):
            taught = Distributions.of(lm, origin, windows)
            judged, looked = (_Judge.of(lm, origin, laid_out(w)) for w in (self.judges, seen))
        # Back is about twice as much as forward.
        share = 3 * self.steps * BATCH / len(self.windows)
        minutes = (time.perf_counter() - began) * share / 60
        adam = Adam.of(student.values, student.rates)
        kept_state = cache.state()
        if kept_state is None:
            lost = {"start": judged.lost(student), "start_seen": looked.lost(student)}
            lost["end"], best = lost["start"], _copied(student.values)
        else:
            arrays, lost = kept_state
            adam.restore(arrays, int(lost.pop("step")))
            best = {name: arrays[f"best/{name}"] for name in student.values}
        name = f"distill (about {max(1, round(minutes))} min)"
        with progress.stage(name, self.steps, "steps") as advance:
            advance(adam.step)
            while adam.step < self.steps:
                gradients = student.gradients(windows, taught, self._numbers(adam.step))
                if not all(np.isfinite(each).all() for each in gradients.values()):
                    break  # what was best so far stays
                adam.update(gradients, self._share(adam.step))
                advance(adam.step)
                if (adam.step * JUDGED) // self.steps > ((adam.step - 1) * JUDGED) // self.steps:
                    now = judged.lost(student)
                    if now < lost["end"]:
                        lost["end"], best = now, _copied(student.values)
                    state = {f"best/{n}": v for n, v in best.items()} | dict(adam.arrays())
                    cache.write_state(state, lost | {"step": adam.step})
        adam.values.update(best)
        lost["end_seen"] = looked.lost(student)
        cache.write_result(student.stored(), lost)

    def _numbers(self, step: int) -> list[int]:
        """The windows of a step: all of them, in an order that each round draws anew."""
        count, found = len(self.windows), []
        for at in range(step * BATCH, step * BATCH + min(BATCH, count)):
            order = np.random.default_rng([self.seed, at // count]).permutation(count)
            found.append(int(order[at % count]))
        return found

    def _share(self, step: int) -> float:
        """The share of the learning rate in a step, from 0."""
        grown = min(1.0, (step + 1) / max(1.0, WARM_UP * self.steps))
        return float(grown * 0.5 * (1 + np.cos(np.pi * step / self.steps)))


class _Student:
    """The quantized model with what is trained of it."""

    def __init__(self, work: _Work) -> None:
        source, cast = work.checkpoint, work.cast_dtype
        copy = replace(source, lm=Tensors(source.lm))  # a view takes the tensors out of it
        self._config = source.config.lm
        view = quantized(copy, base_of(work.recipe), cast, method=work.begun.method)
        quantization, report = view.config.quantization, LoadReport()
        self._trained: dict[str, Grids | Vector] = {}
        for name in list(view.lm):
            module, _, kind = name.rpartition(".")
            if kind == "scales" and quantization is not None and Recipe().covers(module):
                parts = {k: read_array(view.lm.pop(f"{module}.{k}"), report) for k in KINDS}
                grids = Grids(
                    module, parts, quantization.of(module), work.dtype_of(f"{module}.weight")
                )
                self._trained[f"{module}.weight"] = grids
            elif module.endswith("layer_norm"):
                values = np.array(read_array(view.lm[name], report).astype(mx.float32))
                self._trained[name] = Vector(name, values, work.dtype_of(name))
        self._rest = kept(weights_of(view.lm, quantization))
        self.values: Arrays = {}
        self.rates: dict[str, float] = {}
        for each in self._trained.values():
            self.values |= each.initial()
            self.rates |= each.rates()

    def weight(self) -> Weight:
        """Read the model with the parameters as they are now."""

        def read(name: str) -> np.ndarray:
            trained = self._trained.get(name)
            return self._rest(name) if trained is None else trained.weight(self.values)

        return kept(read)

    def gradients(self, windows: Windows, taught: Distributions, numbers: list[int]) -> Arrays:
        """The gradients of all parameters that some of the windows reach."""
        found: Arrays = {}

        def gradient(name: str, values: np.ndarray) -> None:
            if name in self._trained:
                for parameter, each in self._trained[name].gradients(values).items():
                    found[parameter] = each

        some = windows.some(numbers)
        divergence_and_gradients(self._config, self.weight(), some, taught, numbers, gradient)
        return found

    def stored(self) -> Arrays:
        """All that was trained, as a checkpoint has it, by the names of its tensors."""
        found: Arrays = {}
        for each in self._trained.values():
            found |= each.stored(self.values)
        return found


@dataclass(frozen=True, eq=False)
class _Judge:
    """Measures what is lost on some windows."""

    config: LMConfig
    windows: Windows
    taught: Distributions

    @classmethod
    def of(cls, config: LMConfig, origin: Weight, windows: Windows) -> _Judge:
        return cls(config, windows, Distributions.of(config, origin, windows))

    def lost(self, student: _Student) -> float:
        """Nats a token."""
        found = Distributions.of(self.config, student.weight(), self.windows)
        return float(divergence(self.config, self.taught, found).mean())


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """Six digits: what is beyond differs between machines' libraries."""
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def _copied(arrays: Arrays) -> Arrays:
    return {name: values.copy() for name, values in arrays.items()}
