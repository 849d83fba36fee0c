"""Quantize a checkpoint once and keep it, in segue's own layout.

The folder holds all that a run needs: `config.json` with a `quantization` block as mlx-lm writes
it, safetensors shards, the tokenizer.  Tensors keep their names, but for those that run as one,
which lie stacked (`layouts.stacks`); a quantized module has `weight` (packed), `scales` and, in the
affine mode, `biases`.  Loading it neither unpickles nor quantizes, nor copies anything.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np

from .. import atomic
from ..engine.base import LoadReport
from ..engine.mlx import DTYPES
from ..engine.mlx.weights import check_weights, in_type, quantized
from ..errors import RequestError
from ..progress import SILENT, Progress
from . import layouts
from .config import QuantizationConfig, to_hf
from .files import CONFIG, SAFETENSORS, TOKENIZER
from .opening import Checkpoint
from .recipe import Recipe
from .tensors import Tensors, of_arrays

SHARD_BYTES = 1 << 30


@dataclass(frozen=True)
class Saved:
    """What came of it.

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
) -> Saved:
    """Write `checkpoint` to a new `folder`, whole or not at all; its tensors are taken from it.

    Args:
        checkpoint: opened, and not quantized yet.
        recipe: what is quantized; None only casts.
        folder: must not exist.
        cast_dtype: what the language model's weights are cast to before.
        progress: shown while it runs.

    Raises:
        OutputError: the folder exists or cannot be written, or the disk is full.
        CheckpointError: the text encoder is not here.
        RequestError: the checkpoint is quantized already.
        ModelOverflowError: weights are NaN or infinite, as they are or cast.
    """
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    atomic.check_new_folder(folder)
    text = checkpoint.text(progress)
    done: list[str] = []
    left: list[str] = []
    with atomic.creating(folder) as temporary:
        kept = _kept(checkpoint)
        with progress.stage("quantize", len(kept), "tensors") as advance:
            shards = _Shards(temporary)
            for n, (name, parts) in enumerate(kept.items()):
                values = _stacked(checkpoint.lm, parts, _dtype(cast_dtype))
                check_weights([values], parts[0])
                modules = [part.removesuffix(".weight") for part in parts]
                if recipe is None or modules == parts or not recipe.covers(modules[0]):
                    shards.add(name, values)
                elif recipe.fits(values.shape[-1]):
                    done += modules
                    for part, packed in quantized(values, recipe.params, modules[0]).items():
                        shards.add(f"{name.removesuffix('.weight')}.{part}", packed)
                else:
                    left += modules
                    shards.add(name, values)
                advance(n + 1)
            for prefix, tensors in (
                (layouts.CODEC, checkpoint.codec),
                (layouts.TEXT, text.tensors),
            ):
                for name in list(tensors):
                    values = mx.array(np.asarray(tensors.take(name)))
                    check_weights([values], prefix + name, fixed=True)
                    shards.add(prefix + name, values)
            size = shards.close()
        config = to_hf(checkpoint.config, text.config, recipe.params if recipe and done else None)
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        shutil.copyfile(text.tokenizer, temporary / TOKENIZER)
    return Saved(folder, size, tuple(done), tuple(left))


def _kept(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """The names of a saved language model's tensors, and for each what is stacked in it."""
    lm = checkpoint.lm
    found = {
        f"{stack}.weight": [f"{module}.weight" for module in modules]
        for stack, modules in layouts.stacks(checkpoint.config.lm).items()
    }
    stacked = {name for names in found.values() for name in names}
    return found | {name: [name] for name in lm if name not in stacked}


def _stacked(tensors: Tensors, names: list[str], dtype: mx.Dtype | None) -> mx.array:
    parts = []
    for name in names:
        parts.append(in_type(mx.array(tensors.take(name)), dtype))
        mx.eval(parts[-1])
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def in_memory(
    checkpoint: Checkpoint,
    recipe: Recipe,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    report: LoadReport | None = None,
) -> Checkpoint:
    """The checkpoint that `save_quantized` would write, in memory; tensors are taken.

    Args:
        checkpoint: opened, and not quantized yet.
        recipe: what is quantized.
        cast_dtype: what is cast to before; what is not quantized is not cast either.
        progress: shown while it runs.
        report: told what was done.

    Raises:
        RequestError: the checkpoint is quantized already.
        ModelOverflowError: a weight that is to be quantized is NaN or infinite.
    """
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    tensors, report = Tensors(), report or LoadReport()
    with progress.stage("quantize", len(checkpoint.lm), "tensors") as advance:
        for n, name in enumerate(list(checkpoint.lm)):
            tensor = checkpoint.lm.pop(name)
            module, _, kind = name.rpartition(".")
            covered = kind == "weight" and recipe.covers(module)
            if covered and recipe.fits(tensor.shape[-1]):
                with report.timed("read"):
                    values = mx.array(tensor.read())
                with report.timed("cast"):
                    values = in_type(values, _dtype(cast_dtype))
                    mx.eval(values)
                with report.timed("quantize"):
                    arrays = {
                        f"{module}.{part}": _array(packed)
                        for part, packed in quantized(values, recipe.params, module).items()
                    }
                tensors |= of_arrays(arrays, tensor.source)
                report.quantized.append(module)
            else:
                tensors[name] = tensor
                if covered:
                    report.left.append(module)
            advance(n + 1)
    config = replace(checkpoint.config, quantization=QuantizationConfig(recipe.params, {}))
    return replace(checkpoint, config=config, lm=tensors)


def _array(values: mx.array) -> np.ndarray:
    """The values in numpy, which has no bfloat16 of its own."""
    if values.dtype == mx.bfloat16:
        return np.array(values.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(values)


def _dtype(name: str | None) -> mx.Dtype | None:
    return None if name is None else DTYPES[name]


class _Shards:
    """Tensors on their way into safetensors files of at most `SHARD_BYTES`, and their index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, mx.array] = {}
        self._files: list[list[str]] = []
        self._bytes = 0

    def add(self, name: str, values: mx.array) -> None:
        """Take a tensor; what is full is written and let go."""
        mx.eval(values)
        if self._open and sum(a.nbytes for a in self._open.values()) + values.nbytes > SHARD_BYTES:
            self._write()
        self._open[name] = values

    def _write(self) -> None:
        path = self._folder / f"{len(self._files)}.safetensors"
        # Through a file of Python's: of one that it opens itself, MLX does not say what is wrong.
        with path.open("wb") as file:
            mx.save_safetensors(file, self._open, {"format": "mlx"})
        self._files.append(list(self._open))
        self._bytes += sum(values.nbytes for values in self._open.values())
        self._open = {}

    def close(self) -> int:
        """Name the files as the Hugging Face layout does; return the bytes of all tensors."""
        self._write()
        count = len(self._files)
        if count == 1:
            (self._folder / "0.safetensors").rename(self._folder / SAFETENSORS)
            return self._bytes
        weight_map: dict[str, str] = {}
        for n, names in enumerate(self._files):
            shard = f"model-{n + 1:05}-of-{count:05}.safetensors"
            (self._folder / f"{n}.safetensors").rename(self._folder / shard)
            weight_map |= dict.fromkeys(names, shard)
        index = {"metadata": {"total_size": self._bytes}, "weight_map": weight_map}
        (self._folder / f"{SAFETENSORS}.index.json").write_text(json.dumps(index, indent=2))
        return self._bytes
