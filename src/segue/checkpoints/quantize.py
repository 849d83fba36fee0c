"""A checkpoint quantized: as a lazy view that engines load from, or saved in segue's own layout.

`quantized` is the only way to a quantized checkpoint: `save_quantized` writes that view, and both
engines load from it, so what is saved equals what is quantized in memory, bit by bit.  How a weight
is quantized is one of `segue.quantization.methods`.

A saved folder holds all that a run needs: `config.json` with a `quantization` block as mlx-lm
writes it, safetensors shards, the tokenizer.  Tensors keep their names, but for those that run as
one, which are stacked (`layouts.stacks`); a quantized module has `weight` (packed), `scales` and,
in the affine mode, `biases`.  Loading it neither unpickles nor quantizes, nor copies anything.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import atomic
from ..errors import RequestError
from ..progress import SILENT, Progress
from ..quantization.methods import KINDS, VERSIONS, Method, Parts, weight_method
from . import layouts
from .arrays import DTYPES, check_weights, computed, in_type, read_array, read_stacked
from .checkpoint import Checkpoint
from .config import ModelConfig, QuantizationConfig, QuantizationParams, to_hf
from .files import CONFIG, TOKENIZER
from .load_report import LoadReport
from .recipe import Recipe
from .shards import Shards
from .tensors import Tensor, Tensors


def quantized(
    checkpoint: Checkpoint,
    recipe: Recipe | None,
    cast_dtype: str | None = None,
    report: LoadReport | None = None,
    method: Method | None = None,
    details: Mapping[str, Any] | None = None,
    trained: Mapping[str, mx.array] | None = None,
) -> Checkpoint:
    """View `checkpoint` with its language model cast and quantized; nothing is read yet.

    Each tensor of the view's `lm` is computed when it is read.  A module is quantized once, when
    the first of its parts is read; the parts stay in memory until all their tensors are taken.

    Args:
        checkpoint: opened; its `lm` is empty afterwards, its tensors having moved to the view.
        recipe: what is quantized, after the cast; None quantizes nothing.
        cast_dtype: one of `DTYPES`, which all floats of the language model are cast to; None leaves
            them as stored.
        report: gets the names of the modules that are quantized (by the recipe or on disk) and of
            those that are left at once, and the seconds while tensors are read.
        method: how the weight of a module is quantized; None is the recipe's.
        details: what the `quantization` block says of the method beside its name and version.
        trained: tensors of the language model, by name, in the place of the checkpoint's: what a
            method trained beside what is quantized, in its final type.

    Returns:
        The view; its `config` says what of it is quantized.

    Raises:
        RequestError: a recipe for a checkpoint that is quantized on disk, or a plan for another.
        ModelOverflowError: when a tensor is read: a weight to be quantized is NaN or infinite.
    """
    config, report = checkpoint.config, LoadReport() if report is None else report
    if recipe is not None and config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    if recipe is not None:
        shapes = {name: tensor.shape for name, tensor in checkpoint.lm.items()}
        recipe.check(config.lm, shapes, checkpoint.name)
    cast = None if cast_dtype is None else DTYPES[cast_dtype]
    if recipe is not None and method is None:
        method = weight_method(recipe.method)
    view = Tensors()
    for name in list(checkpoint.lm):
        tensor = checkpoint.lm.pop(name)
        module, _, kind = name.rpartition(".")
        covered = recipe is not None and kind == "weight" and recipe.covers(module)
        if method and recipe and covered and recipe.fits(tensor.shape[-1], module):
            source, params = _Cast(tensor, cast, report), recipe.params_of(module)
            view |= _QuantizedModule(module, source, params, method, report).tensors()
            continue
        if covered:
            report.left.append(module)
        if trained and name in trained:
            view[name] = computed(tensor.shape, partial(trained.__getitem__, name), tensor.source)
            continue
        view[name] = tensor if cast is None else _Cast(tensor, cast, report).tensor()
    report.quantized += quantized_modules(view)
    return replace(checkpoint, config=_config_of(config, recipe, report, details), lm=view)


def quantized_modules(lm: Tensors) -> list[str]:
    """The modules of a language model that are quantized."""
    suffix = ".scales"
    return [name.removesuffix(suffix) for name in lm if name.endswith(suffix)]


def _config_of(
    config: ModelConfig,
    recipe: Recipe | None,
    report: LoadReport,
    details: Mapping[str, Any] | None,
) -> ModelConfig:
    if recipe is None or not report.quantized:
        return config
    how = {"name": recipe.method, "version": VERSIONS[recipe.method], **(details or {})}
    ways = {module: recipe.params_of(module) for module in report.quantized}
    exceptions = {module: params for module, params in ways.items() if params != recipe.params}
    return replace(config, quantization=QuantizationConfig(recipe.params, exceptions, how))


@dataclass(frozen=True)
class _Cast:
    """A tensor of which floats are cast when it is read."""

    source: Tensor
    dtype: mx.Dtype | None
    report: LoadReport

    def values(self) -> mx.array:
        found = read_array(self.source, self.report)
        with self.report.timed("cast"):
            found = in_type(found, self.dtype)
            mx.eval(found)
        return found

    def tensor(self) -> Tensor:
        return computed(self.source.shape, self.values, self.source.source)


class _QuantizedModule:
    """A weight that is quantized once, when the first of its parts is read."""

    def __init__(
        self,
        name: str,
        weight: _Cast,
        params: QuantizationParams,
        method: Method,
        report: LoadReport,
    ) -> None:
        self._name, self._params, self._method, self._report = name, params, method, report
        self._shape, self._path = weight.source.shape, weight.source.source
        self._weight: _Cast | None = weight
        self._parts: Parts = {}

    def tensors(self) -> Tensors:
        """Its parts by their names in the checkpoint."""
        rows, columns = self._shape
        groups = (rows, columns // self._params.group_size)
        shapes = {"weight": (rows, columns * self._params.bits // 32), "scales": groups}
        if self._params.mode == "affine":
            shapes["biases"] = groups
        return Tensors(
            {
                f"{self._name}.{kind}": computed(shape, partial(self._part, kind), self._path)
                for kind, shape in shapes.items()
            }
        )

    def _part(self, kind: str) -> mx.array:
        if self._weight is not None:
            weight = self._weight.values()
            with self._report.timed("quantize"):
                check_weights([weight], self._name)
                parts = self._method(self._name, weight, self._params)
                mx.eval(parts)
            self._parts, self._weight = parts, None
        return self._parts[kind]


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was saved.

    Attributes:
        folder: the new checkpoint.
        bytes: of its weights.
        quantized: the modules that are quantized.
        left: modules in scope that could not be, because their rows are no whole groups.
    """

    folder: Path
    bytes: int
    quantized: tuple[str, ...]
    left: tuple[str, ...]


def save_quantized(
    checkpoint: Checkpoint,
    recipe: Recipe | None,
    folder: Path,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    method: Method | None = None,
    details: Mapping[str, Any] | None = None,
    trained: Mapping[str, mx.array] | None = None,
) -> Saved:
    """Write `checkpoint` to a new `folder`, whole or not at all; its tensors are taken from it.

    Args:
        checkpoint: opened, and not quantized yet.
        recipe: what is quantized; None only casts.
        folder: must not exist.
        cast_dtype: what the language model's weights are cast to before.
        progress: shown while it runs.
        method: see `quantized`.
        details: see there.
        trained: see there.

    Returns:
        What was written.

    Raises:
        OutputError: the folder exists or cannot be written, or the disk is full.
        CheckpointError: the text encoder is not stored here.
        RequestError: the checkpoint is quantized already.
        ModelOverflowError: weights are NaN or infinite, as they are or cast.
    """
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    atomic.check_new_folder(folder)
    text, report = checkpoint.text(progress), LoadReport()
    with atomic.creating(folder) as temporary:
        view = quantized(checkpoint, recipe, cast_dtype, report, method, details, trained)
        stored = _stored_names(view)
        with progress.stage("quantize", len(stored), "tensors") as advance:
            shards = Shards(temporary)
            for n, (name, parts) in enumerate(stored.items()):
                values = read_stacked([view.lm.pop(part) for part in parts], report)
                check_weights([values], parts[0])
                shards.add(name, values)
                advance(n + 1)
            for prefix, tensors in (
                (layouts.CODEC, view.codec),
                (layouts.TEXT, text.tensors),
            ):
                for name in list(tensors):
                    values = read_array(tensors.pop(name), report)
                    check_weights([values], prefix + name, fixed=True)
                    shards.add(prefix + name, values)
            size = shards.close()
        config = to_hf(view.config, text.config, view.config.quantization)
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        shutil.copyfile(text.tokenizer, temporary / TOKENIZER)
    return Saved(folder, size, tuple(report.quantized), tuple(report.left))


def _stored_names(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """The names of a saved language model's tensors, and for each those stacked in it."""
    lm = checkpoint.lm
    found = {
        f"{stack}.{kind}": [f"{module}.{kind}" for module in modules]
        for stack, modules in layouts.stacks(checkpoint.config.lm).items()
        for kind in KINDS
        if f"{modules[0]}.{kind}" in lm
    }
    stacked = {name for names in found.values() for name in names}
    return found | {name: [name] for name in lm if name not in stacked}
