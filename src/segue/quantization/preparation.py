"""From a recipe whose method looks at music to the method, ready to hand out a model's modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.load_report import LoadReport
from ..checkpoints.quantize import quantized
from ..checkpoints.recipe import Calibration, Recipe
from ..engine.base import Engine
from ..progress import SILENT, Progress
from .calibration import CalibrationSet, TextCodes, collect
from .distilling import base_of, distilled
from .evaluation import Distributions, foreign_note, surprise
from .gptq import NAME, gptq
from .methods import Calibrated, weight_method
from .takes_cache import identity_of
from .weights import weights_of
from .windows import Windows

LOOKED_AT = 8
"""Windows that tell whether music is what a model expects."""


def prepared(
    checkpoint: Checkpoint,
    recipe: Recipe,
    engine: Callable[[], Engine],
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    music: CalibrationSet | None = None,
    engine_name: str | None = None,
) -> Calibrated:
    """Let a recipe's method look at its music.

    Args:
        checkpoint: opened; its tensors stay in it.
        recipe: its method is one that looks at music; its `calibration` says at which.
        engine: loads the same checkpoint as it is stored, to generate takes and to encode music.
        cast_dtype: see `segue.checkpoints.quantize.quantized`.
        progress: shown while it runs.
        music: in the place of what the recipe says.
        engine_name: what `engine` loads, to keep takes on disk by; None keeps none.

    Raises:
        AudioError: music cannot be read.
        RequestError: see `gptq`.
        ModelOverflowError: see there.
    """
    choice = recipe.calibration or Calibration()
    if music is None:
        own = None if engine_name is None else identity_of(checkpoint, engine_name)
        music = collect(choice, checkpoint.config, engine, progress, identity=own)
    found = looked_at(checkpoint, recipe, music, cast_dtype, progress)
    if not choice.paths:
        return found
    note = foreign_note(*_surprise(checkpoint, music, progress))
    return found if note is None else replace(found, notes=(*found.notes, note))


def looked_at(
    checkpoint: Checkpoint,
    recipe: Recipe,
    music: CalibrationSet,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
) -> Calibrated:
    """Let a recipe's method look at some music: `gptq`, `distilled`, or the one after the other.

    Raises:
        RequestError: see there.
        ModelOverflowError: see there.
    """
    if not recipe.distils:
        return gptq(checkpoint, recipe, music, cast_dtype, progress)
    base = base_of(recipe)
    if base.method == NAME:
        start = gptq(checkpoint, base, music, cast_dtype, progress)
    else:
        details = {"calibration": music.digest, "windows": len(music.windows)}
        notes = () if music.note is None else (music.note,)
        start = Calibrated(weight_method(base.method), details, notes)
    return distilled(checkpoint, recipe, start, music, cast_dtype, progress)


def quantize_with(
    checkpoint: Checkpoint,
    recipe: Recipe,
    music: CalibrationSet,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    report: LoadReport | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Checkpoint:
    """View `checkpoint` quantized by a recipe whose method looks at music: see `looked_at`.

    Engines load from the view as it is: without a recipe.

    Args:
        checkpoint: opened; its tensors move to the view.
        recipe: what is quantized, and how.
        music: what the method looks at.
        cast_dtype: see `segue.checkpoints.quantize.quantized`.
        progress: shown while it runs.
        report: see there.
        say: called with the method's notes.
    """
    found = looked_at(checkpoint, recipe, music, cast_dtype, progress)
    for note in found.notes:
        say(note)
    return quantized(
        checkpoint, recipe, cast_dtype, report, found.method, found.details, found.trained
    )


def _surprise(
    checkpoint: Checkpoint, music: CalibrationSet, progress: Progress
) -> tuple[float, float]:
    step = max(1, len(music.windows) // LOOKED_AT)
    windows, texts = music.windows[::step], TextCodes(checkpoint, progress)
    codes = [window.codes for window in windows]
    lm = checkpoint.config.lm
    rows = Windows.of(lm, codes, [texts.of(window.text) for window in windows])
    return surprise(lm, Distributions.of(lm, weights_of(checkpoint.lm), rows), windows)
