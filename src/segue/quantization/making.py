"""A recipe for a checkpoint: music, the loss of every unit, a plan, and what it loses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import QuantizationParams
from ..checkpoints.plan import PlanShape
from ..checkpoints.recipe import METHODS, Calibration, Recipe
from ..checkpoints.recipe_file import SCHEMA
from ..engine.base import Engine
from ..errors import RequestError
from ..progress import SILENT, Progress
from .calibration import CalibrationSet, TextCodes, Window, collect, self_takes
from .effort import duration
from .losses import MEASURED, Options, Problem, Ways, way_name
from .methods import VERSIONS
from .planning import Goal, plan, recipe_of
from .sensitivity import Losses, Measurements, kept, rounded_to_nearest
from .sensitivity_cache import SensitivityCache, weights_digest
from .step_costs import Table, step_costs
from .takes_cache import Identity, identity_of
from .units import Unit, average_bits, units_of
from .weights import Weight, weights_of
from .windows import Windows

WINDOWS = 12
"""That units are measured on; the order of units is the same with 8."""

HELD_OUT_WINDOWS = 8
"""That whole plans are measured on."""

METHOD_WINDOWS = 32
"""That a method looks at to round units alone, to measure them; plans are rounded with all."""

_HELD_OUT_SEED = 1 << 31
"""Added to the seed of takes: what is held out must not be what a method looks at."""


@dataclass(frozen=True)
class RecipeRequest:
    """What a recipe is wanted for.

    Attributes:
        name: of the checkpoint.
        goal: the budget, and what is to be least.
        options: the widths and groups to choose from.
        music: what units are measured on, and what the method looks at.
        method: how the plan is quantized; one of `METHODS`.
        distill_steps: see `Recipe`.
        label: what the recipe is called.

    Raises:
        RequestError: there is no such method, or it has no such steps.
    """

    name: str
    goal: Goal
    options: Options = field(default_factory=Options)
    music: Calibration = field(default_factory=Calibration)
    method: str = "nearest"
    distill_steps: int | None = None
    label: str = ""

    def __post_init__(self) -> None:
        # Refused now, not after minutes.
        Recipe(method=self.method, distill_steps=self.distill_steps)


@dataclass(frozen=True)
class Sources:
    """Where a recipe's parts come from.

    Attributes:
        opened: opens the checkpoint, anew each time.
        quantized: views it quantized by a recipe, whose method may look at the music.
        engine: loads it as it is, to generate and to encode.
        engine_name: the engine that steps are timed on.
        threads: see `segue.load`.
    """

    opened: Callable[[], Checkpoint]
    quantized: Callable[[Recipe, CalibrationSet], Checkpoint]
    engine: Callable[[], Engine]
    engine_name: str
    threads: int | None = None


def make_recipe(
    request: RecipeRequest,
    sources: Sources,
    progress: Progress = SILENT,
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Measure a checkpoint, plan, and measure the plan.

    Args:
        request: what is wanted.
        sources: the checkpoint.
        progress: shown while it runs.
        say: called with lines for people: how long it will take, what was left out.
        clock: seconds, for the estimate and the milliseconds of a step; nothing else depends on it.

    Returns:
        The content of a recipe's file.

    Raises:
        RequestError: the checkpoint is quantized already, or nothing fits the budget.
        AudioError: music cannot be read.
    """
    checkpoint = sources.opened()
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; plan what it came from")
    lm, units = checkpoint.config.lm, units_of(checkpoint.config.lm)
    problem = Problem(units, request.options, dict.fromkeys((u.name for u in units), 0.0))
    if request.goal.bits is not None:
        problem.fewest_nats(request.goal.bits)  # refused now, not after minutes
    own = identity_of(checkpoint, sources.engine_name)
    music = _music(request.music, checkpoint, sources, progress, own)
    if any(window in music.windows for window in music.held_out):
        say("no music is left to hold out: the plan is measured on what its units were measured on")
    texts = TextCodes(checkpoint, progress)

    def run(windows: Sequence[Window]) -> Measurements:
        encoded = [texts.of(window.text) for window in windows]
        codes = [window.codes for window in windows]
        return Measurements(lm, weight, Windows.of(lm, codes, encoded), progress)

    looked_at = CalibrationSet(())
    if METHODS[request.method]:
        looked_at = collect(
            request.music, checkpoint.config, sources.engine, progress, identity=own
        )
    weight = kept(weights_of(checkpoint.lm))
    identity = weights_digest(checkpoint)
    facts: dict[str, Any] = {
        "weights": identity,
        "windows": music.digest,
        "measured": asdict(MEASURED),
    }
    rounded, method = None, request.method.partition("+")[0]  # units are measured without training
    if METHODS[method]:
        # How much a method makes up for differs from unit to unit, so each is measured by it.
        bits, group = MEASURED.bits, MEASURED.group_size
        alike = Recipe(bits=bits, group_size=group, method=method, calibration=request.music)
        part = CalibrationSet(_some(looked_at.windows, METHOD_WINDOWS))
        facts |= {"method": [method, VERSIONS[method]], "music": part.digest}
        rounded = partial(_rounded_by, sources, alike, part)
    losses = _losses(partial(run, music.windows), units, facts, rounded, say, clock)
    held_out = run(music.held_out)
    step = None
    if request.goal.minimised == "milliseconds":
        step = step_costs(
            sources.engine_name, units, request.options, sources.threads, progress, clock
        )
    problem = replace(problem, losses=losses)
    shape = PlanShape.of(lm)
    calibration = request.music if METHODS[request.method] else None

    def recipe_for(ways: Ways) -> Recipe:
        found = recipe_of(problem, ways, shape, request.method, calibration, request.label)
        return replace(found, distill_steps=request.distill_steps)

    def measure(ways: Ways) -> float:
        view = sources.quantized(recipe_for(ways), looked_at)
        return held_out.divergence(weights_of(view.lm, view.config.quantization))

    found = plan(problem, request.goal, measure, step)
    document = {
        "schema": SCHEMA,
        "recipe": recipe_for(found.ways).to_json(),
        "model": {"name": request.name, "weights_sha256": identity, "shape": asdict(shape)},
        "goal": {
            "least": request.goal.minimised,
            "budget_bits": request.goal.bits,
            "budget_kl": request.goal.nats,
        },
        "options": {
            "widths": list(request.options.widths),
            "groups": list(request.options.groups),
            "cross_bits": request.options.cross_bits,
        },
        "bits": _rounded(average_bits((unit, found.ways[unit.name]) for unit in units)),
        "kl": {
            "predicted": _rounded(found.predicted),
            "measured": _rounded(found.measured),
            "rounds": [[_rounded(alone), _rounded(whole)] for alone, whole in found.rounds],
        },
        "measured_at": asdict(MEASURED),
        "units": [_unit(unit, found.ways[unit.name], losses[unit.name]) for unit in units],
        "calibration": _music_json(music),
        "method": {"name": request.method, "version": VERSIONS.get(request.method, 1)}
        | ({"calibration": looked_at.digest} if looked_at.windows else {}),
        "seed": request.music.seed,
    }
    if step is not None:
        document |= _times(step, found.ways, sources.engine_name)
    return document


def _music(
    choice: Calibration,
    checkpoint: Checkpoint,
    sources: Sources,
    progress: Progress,
    own: Identity,
) -> CalibrationSet:
    """The windows that units are measured on, and those that plans are."""
    takes = choice.self_takes
    if takes is None or takes > WINDOWS:
        takes = 0 if choice.paths and takes is None else WINDOWS
    some = replace(choice, self_takes=takes)
    music = collect(some, checkpoint.config, sources.engine, progress, identity=own)
    windows, held_out, found_at = _some(music.windows, WINDOWS), music.held_out, music.sources
    if len(held_out) < HELD_OUT_WINDOWS and not choice.paths:
        seed = (choice.seed + _HELD_OUT_SEED) % (1 << 32)
        count = min(takes, HELD_OUT_WINDOWS)
        apart = self_takes(sources.engine, count, seed, progress=progress, identity=own)
        held_out = apart.windows
        found_at = (*found_at, *(source | {"held_out": True} for source in apart.sources))
    return CalibrationSet(windows, _some(held_out or windows, HELD_OUT_WINDOWS), found_at)


def _some(windows: Sequence[Window], most: int) -> tuple[Window, ...]:
    """At most so many of some windows, evenly over them."""
    count = min(most, len(windows))
    return tuple(windows[n * len(windows) // count] for n in range(count))


def _rounded_by(sources: Sources, recipe: Recipe, music: CalibrationSet) -> Weight:
    """Weights as a recipe's method rounds them; to the nearest value what its groups do not fit."""
    view = sources.quantized(recipe, music)
    read = weights_of(view.lm, view.config.quantization)

    def rounded(name: str) -> np.ndarray:
        packed = f"{name.removesuffix('.weight')}.scales" in view.lm
        return read(name) if packed else rounded_to_nearest(read(name))

    return rounded


def _losses(
    run: Callable[[], Measurements],
    units: Sequence[Unit],
    facts: Mapping[str, Any],
    rounded: Callable[[], Weight] | None,
    say: Callable[[str], None],
    clock: Callable[[], float],
) -> Losses:
    """The units' losses, from the cache as far as they were measured before."""
    cache = SensitivityCache(facts)
    known = cache.read()
    left = [unit for unit in units if unit.name not in known]
    if not left:
        return {unit.name: known[unit.name] for unit in units}
    values = None if rounded is None else rounded()
    started = clock()
    measurements = run()
    # What was just run are all layers and the heads, which are about one more.
    share = measurements.layers_of(left) / measurements.layers_of(units[-1:], whole=True)
    say(
        f"{len(left)} units to measure on {measurements.windows} windows: about "
        f"{duration((clock() - started) * share)}"
    )
    return measurements.sensitivities(units, known, cache.write, values)


def _unit(unit: Unit, way: QuantizationParams, loss: float) -> dict[str, Any]:
    return {
        "unit": unit.name,
        "weights": unit.weights,
        "bits": way.bits,
        "group_size": way.group_size,
        "loss": _rounded(loss),
    }


def _music_json(music: CalibrationSet) -> dict[str, Any]:
    held_out = CalibrationSet(music.held_out)
    return {
        "windows": len(music.windows),
        "sha256": music.digest,
        "held_out_windows": len(music.held_out),
        "held_out_sha256": held_out.digest,
        "with_text": sum(bool(window.text) for window in music.windows),
        "sources": list(music.sources),
    }


def _times(step: Table, ways: Ways, engine: str) -> dict[str, Any]:
    whole = sum(step[name][way_name(way)] for name, way in ways.items())
    rounded = {
        name: {way: _rounded(value) for way, value in times.items()} for name, times in step.items()
    }
    return {"milliseconds": _rounded(whole), "engine": engine, "step_milliseconds": rounded}


def _rounded(value: float) -> float:
    """Six digits: what is beyond differs between machines' libraries."""
    return float(f"{value:.6g}")
