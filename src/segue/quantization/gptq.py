"""GPTQ over a language model, layer by layer: what each product reads decides how it is rounded.

A layer's weights and the second moments of its inputs are in memory at a time, and the hidden
states of all windows, or those in a file.  Each layer that is done is a file in segue's cache, with
the hidden states behind it once a minute: what was interrupted goes on from there, to the same
bits, and what was done once is not done again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..checkpoints.arrays import DTYPES
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import QuantizationParams
from ..checkpoints.layouts import LM
from ..checkpoints.recipe import Recipe
from ..errors import ModelOverflowError, RequestError
from ..progress import SILENT, Advance, Progress
from . import device_rounding, rounding
from .arithmetic import Arithmetic, MLXArithmetic, default_arithmetic
from .calibration import CalibrationSet, TextCodes
from .effort import Effort, spoken, work
from .forward import Forward
from .layer_cache import LayerCache, cache_folder, sweep
from .methods import KINDS, VERSIONS, Calibrated, Parts, parts_of, search
from .moments import Moments
from .weights import HEADS, samples_of, site_of, weights_of
from .windows import Hidden, Windows

NAME = "gptq"


def gptq(
    checkpoint: Checkpoint,
    recipe: Recipe,
    music: CalibrationSet,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    cache: Path | None = None,
    arithmetic: Arithmetic | None = None,
) -> Calibrated:
    """Compute all modules of a recipe; the method that is returned reads them from the cache.

    Args:
        checkpoint: opened; its tensors stay in it.
        recipe: what is quantized, and how; its method is GPTQ.
        music: what it looks at.
        cast_dtype: see `quantized`.
        progress: shown while it runs.
        cache: where layers are kept; None is `cache_folder()`.
        arithmetic: computes; None is what is fastest here.

    Raises:
        RequestError: the checkpoint is quantized already, or a plan is for another; the method is
            another one, or there is no music; the cache cannot be written.
        ModelOverflowError: weights, or what layers make of the music, are NaN or infinite.
    """
    if recipe.method != NAME or recipe.mode != "affine":
        raise RequestError(f"GPTQ is not the method of {recipe.name}")
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    if not music.windows:
        raise RequestError("GPTQ without music to look at; name some")
    shapes = {name: tensor.shape for name, tensor in checkpoint.lm.items()}
    recipe.check(checkpoint.config.lm, shapes, checkpoint.name)
    root, arithmetic = cache or cache_folder(), arithmetic or default_arithmetic()
    work = _Work(checkpoint, recipe, music, cast_dtype, root, arithmetic)
    work.run(progress)
    sweep(root, keep=work.cache.folder)
    details = {"calibration": music.digest, "windows": len(music.windows)}
    return Calibrated(work.parts, details, () if music.note is None else (music.note,))


@dataclass(eq=False)
class _Work:
    checkpoint: Checkpoint
    recipe: Recipe
    music: CalibrationSet
    cast_dtype: str | None
    root: Path
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        cast = None if self.cast_dtype is None else DTYPES[self.cast_dtype]
        self._weight = weights_of(self.checkpoint.lm, dtype=cast)
        self._shapes = {
            module: tensor.shape
            for name, tensor in self.checkpoint.lm.items()
            if name.endswith(".weight")
            and self.recipe.covers(module := name.removesuffix(".weight"))
            and self.recipe.fits(tensor.shape[-1], module)
        }
        self.cache = LayerCache(self.root / self._key())
        self._stages = self._all_stages()
        self._files = {m: self.cache.file(n) for n, ms in self._stages.items() for m in ms}

    def _key(self) -> str:
        facts = [VERSIONS[NAME], self.arithmetic.name, self.cast_dtype, self.music.digest]
        ways = [[name, repr(self.recipe.params_of(name))] for name in sorted(self._shapes)]
        digest = hashlib.sha256(json.dumps([facts, ways]).encode())
        for part in samples_of(self.checkpoint.lm):
            digest.update(part)
        return digest.hexdigest()[:32]

    def _all_stages(self) -> dict[int | None, list[str]]:
        """The modules of each layer by its number, and of the heads by None; no empty ones."""
        found: dict[int | None, list[str]] = {}
        for n in range(self.checkpoint.config.lm.num_layers):
            found[n] = [m for m in self._shapes if m.startswith(f"{LM}layers.{n}.")]
        found[None] = [m for m in self._shapes if m.startswith(f"{HEADS}.")]
        return {n: modules for n, modules in found.items() if modules}

    def run(self, progress: Progress) -> None:
        pending = [n for n in self._stages if not self.cache.file(n).is_file()]
        if not pending:
            return
        self.cache.make()
        lm, windows = self.checkpoint.config.lm, self.music.windows
        texts = TextCodes(self.checkpoint, progress)
        forward = Forward(lm, self._weight, self.arithmetic, self.cache.folder)
        encoded = [texts.of(window.text) for window in windows]
        laid_out = Windows.of(lm, [window.codes for window in windows], encoded)
        hidden = forward.start(laid_out)
        heads = None in pending
        layers = [n for n in pending if n is not None]
        end = lm.num_layers if heads else 1 + max(layers)
        first = min([self.cache.hidden_before(), end, *layers])
        if first and not self.cache.read_hidden(first, hidden.rows):
            first, hidden = 0, forward.start(laid_out)
        effort = self._measured(forward, hidden, layers[0]) if layers else Effort()
        shapes = [self._shapes[module] for n in pending for module in self._stages[n]]
        passing = effort.passing(hidden.rows.shape[0])
        total = passing * (end - first) + effort.rounding(shapes)
        with progress.stage(f"quantize by GPTQ{spoken(total)}", round(total), "s") as advance:
            done = 0.0
            for n in range(first, end):
                moments = self._moments(n if n in pending else _NO_LAYER)
                forward.layer(n, hidden, moments, _passed(advance, effort, done), in_place=True)
                done += passing
                if n in pending:
                    done = self._round(n, moments, effort, advance, done)
                if n + 1 < end:
                    self.cache.keep_hidden(n + 1, hidden.rows)
            if heads:
                moments = self._moments(None)
                for _ in forward.last_of_chunks(hidden, moments):
                    pass
                self._round(None, moments, effort, advance, done)
        self.cache.finish()

    def _measured(self, forward: Forward, hidden: Hidden, n: int) -> Effort:
        """What passing a layer and rounding take, by some windows that pass one and a module."""
        part, took = hidden.part(*next(hidden.chunks())), []
        for _ in range(2):
            moments, started = self._moments(n), time.perf_counter()
            forward.layer(n, part, moments)
            took.append(time.perf_counter() - started)
        module = min(self._stages[n], key=lambda name: work(self._shapes[name]))
        # A GPU's kernels are compiled the first time, which takes longer than rounding.
        for _ in range(2 if self.arithmetic.name == MLXArithmetic.name else 1):
            started = time.perf_counter()
            self._rounded(module, moments)
        unit = (time.perf_counter() - started) / work(self._shapes[module])
        return Effort(max(0.0, took[0] - took[1]), took[1] / part.rows.shape[0], unit)

    def _moments(self, n: int | None) -> Moments:
        return Moments(frozenset(map(site_of, self._stages.get(n, ()))), self.arithmetic)

    def _round(
        self, n: int | None, moments: Moments, effort: Effort, advance: Advance, done: float
    ) -> float:
        """Round a layer's modules, or the heads, and keep them; returns the seconds done then."""
        arrays = {}
        for module in self._stages[n]:
            for kind, part in self._rounded(module, moments).items():
                arrays[f"{module}.{kind}"] = part
            done += effort.rounding([self._shapes[module]])
            advance(round(done))
        self.cache.write(n, arrays)
        return done

    def _rounded(self, module: str, moments: Moments) -> Parts:
        params = self.recipe.params_of(module)
        weight = np.ascontiguousarray(self._weight(f"{module}.weight").T)
        if not np.isfinite(weight).all():
            raise ModelOverflowError(f"weights of {module}")
        stored = self.checkpoint.lm[f"{module}.weight"].read().dtype.name
        dtype = self.cast_dtype or stored
        H = moments.of(site_of(module), len(weight))
        on_device = self.arithmetic.name == MLXArithmetic.name
        calibrated = device_rounding.calibrated if on_device else rounding.calibrated
        found = calibrated(weight, H, params.bits, params.group_size, rounding.DTYPES[dtype])
        return parts_of(found, params.bits, DTYPES[dtype])

    def parts(self, module: str, weight: mx.array, params: QuantizationParams) -> Parts:
        """The parts of a module, as a `Method`; those of none that GPTQ rounds, by search."""
        file = self._files.get(module)
        if file is not None:
            arrays = mx.load(str(file))
            assert isinstance(arrays, dict)  # noqa: S101 - of a safetensors file
            return {kind: arrays[f"{module}.{kind}"] for kind in KINDS}
        return search(module, weight, params)


_NO_LAYER = -1


def _passed(advance: Advance, effort: Effort, done: float) -> Callable[[int], None]:
    """What shows the rows that have passed a layer."""
    return lambda rows: advance(round(done + effort.passing(rows)))
