"""The models that a worker keeps loaded: those used last, as many as memory has room for."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...checkpoints import hub
from ...checkpoints.adapters import AdapterChoice
from ...checkpoints.config import ModelConfig
from ...checkpoints.opening import open_checkpoint
from ...checkpoints.recipe import Recipe
from ...engine.base import Engine
from ...engine.shared import SharedEngine
from ...errors import BaseModelRequiredError, CheckpointError, RequestError
from ...model import CPU_ENGINES, Model, engine_for, load
from ...progress import Progress
from ..model_tag import model_tag
from ..quantization import Quantization
from .quantized_cache import QuantizedCache

CACHED_COLUMNS = 1536
"""Of a row's key/value cache, at most: a window of 30 s in whole buckets."""

Key = tuple[str, str, tuple[AdapterChoice, ...]]
"""Source, quantization and adapters of a model."""

_T5_AND_CODEC = 170_000_000
_FLOAT32 = 4


@dataclass(frozen=True)
class ModelSpec:
    """The model that a task needs.

    Attributes:
        source: name for `hub.locate`.
        base: the catalogue's base model of a fine-tune.
        quantization: of the job.
        adapters: that are merged into it, by their folders.
    """

    source: str
    base: str | None
    quantization: Quantization
    adapters: tuple[AdapterChoice, ...] = ()

    @property
    def key(self) -> Key:
        """The same for what is the same when it is loaded."""
        return self.source, self.quantization.mode, self.adapters

    @property
    def tag(self) -> str:
        """What the service calls it, see `model_tag`."""
        return model_tag(*self.key)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A loaded model.

    Attributes:
        model: the model itself.
        engine: the model's, or what lets several requests share its steps.
        quantization: name of the quantization that runs.
        bytes: approximate size in memory.
    """

    model: Model
    engine: Engine
    quantization: str
    bytes: int

    def describe(self) -> dict[str, Any]:
        """Return what runs the model: `engine`, `device` and `quantization`."""
        engine = self.model.engine
        return {
            "engine": engine.name,
            "device": engine.device,
            "quantization": self.quantization,
        }


class ModelCache:
    """Loads models, and drops the least recently used ones.

    Args:
        engine: see `segue.load`.
        threads: see `segue.load`; only for the engine that has threads.
        quantized: where quantized checkpoints are kept.
        budget: bytes of memory; the model in use stays, however large.
        batch_rows: rows of requests that may share a model's steps; 1 lets none.
        rows_bytes: what the key/value caches of such rows may take; None is half of `budget`.
    """

    def __init__(
        self,
        engine: str,
        threads: int | None,
        quantized: QuantizedCache,
        budget: int,
        batch_rows: int = 1,
        rows_bytes: int | None = None,
    ) -> None:
        self._rows_bytes = budget // 2 if rows_bytes is None else rows_bytes
        self._engine = engine_for(engine)
        self._threads = threads if self._engine in CPU_ENGINES else None
        self._quantized, self._budget, self._batch_rows = quantized, budget, batch_rows
        self._models: OrderedDict[Key, LoadedModel] = OrderedDict()

    def __contains__(self, spec: ModelSpec) -> bool:
        """Whether the model of `spec` is loaded."""
        return spec.key in self._models

    def held(self) -> dict[str, int]:
        """How many bytes each model takes that is loaded, by its tag."""
        return {model_tag(*key): loaded.bytes for key, loaded in list(self._models.items())}

    def drop(self, tag: str) -> None:
        """Drop a model that nothing runs."""
        for key in [key for key in self._models if model_tag(*key) == tag]:
            del self._models[key]
        _free()

    def get(self, spec: ModelSpec, progress: Progress, room: int | None = None) -> LoadedModel:
        """Return the model of `spec`; load it if it is not loaded.

        Args:
            spec: of the model.
            progress: shown while it loads.
            room: bytes of memory that models may take from now on; None leaves it as it was.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            RequestError: it cannot be quantized as the request asked.
        """
        key = spec.key
        if room is not None:
            self._budget = room
        if (loaded := self._models.get(key)) is None:
            self._evict(self._expected_bytes(spec))
            loaded = self._load(spec, progress)
            self._models[key] = loaded
            self._evict(0)
        if spec.quantization.explicit and loaded.quantization != spec.quantization.mode:
            raise _quantized_already(loaded.quantization)
        self._models.move_to_end(key)
        return loaded

    def _evict(self, incoming: int) -> None:
        """Drop models until `incoming` bytes fit into the budget; with 0, the newest stays."""
        keep = 1 if incoming == 0 else 0
        while len(self._models) > keep and incoming + self._bytes() > self._budget:
            self._models.popitem(last=False)
            _free()

    def _bytes(self) -> int:
        return sum(loaded.bytes for loaded in self._models.values())

    def _expected_bytes(self, spec: ModelSpec) -> int:
        folder = hub.find_local(spec.source)
        if folder is None or not self._models:
            return 0
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

    def _load(self, spec: ModelSpec, progress: Progress) -> LoadedModel:
        base = _base_for(spec)
        recipe, quantization = spec.quantization.recipe, spec.quantization.mode
        if recipe is not None and (stored := _stored_quantization(spec, base, progress)):
            if spec.quantization.explicit:
                raise _quantized_already(stored)
            recipe, quantization = None, stored
        folder = None
        if recipe is not None and not spec.adapters:
            folder = self._quantized.find_or_make(spec.source, base, recipe, progress)
        if folder is not None:
            model = self._load_model(str(folder), None, None, (), progress)
        else:
            model = self._load_model(spec.source, base, recipe, spec.adapters, progress)
        if recipe is None and model.config.quantization is not None:
            quantization = _name(model.config)
        engine: Engine = model.engine
        if self._batch_rows > 1:
            # Where memory has room for fewer rows than may run, the others wait for theirs.
            fit = self._rows_bytes // _row_bytes(model)
            engine = SharedEngine(engine, max(1, min(self._batch_rows, fit)))
        return LoadedModel(model, engine, quantization, _approximate_bytes(model))

    def _load_model(
        self,
        name: str,
        base: str | None,
        recipe: Recipe | None,
        adapters: Sequence[AdapterChoice],
        progress: Progress,
    ) -> Model:
        with progress.stage("load"):
            return load(
                name,
                base_model=base,
                engine=self._engine,
                threads=self._threads,
                recipe=recipe,
                adapters=adapters,
                progress=progress,
            )


def mlx_bytes() -> int:
    """Bytes that MLX has allocated in this process, what it keeps for later included.

    On a GPU that is its memory; 0 where MLX has not been used.
    """
    mlx = sys.modules.get("mlx.core")
    return 0 if mlx is None else int(mlx.get_active_memory() + mlx.get_cache_memory())


def _free() -> None:
    """Give the memory of models that were dropped back."""
    gc.collect()
    if (mx := sys.modules.get("mlx.core")) is not None:
        mx.clear_cache()


def _quantized_already(stored: str) -> RequestError:
    return RequestError(
        f"this model is stored quantized already ({stored}); ask for quantization_mode none to "
        "play it as it is"
    )


def _base_for(spec: ModelSpec) -> str | None:
    """The base model of a fine-tune, if it is needed, or on this machine and so of use."""
    if spec.base is None or hub.find_local(spec.base) is not None:
        return spec.base
    try:
        open_checkpoint(spec.source)
    except BaseModelRequiredError:
        return spec.base  # its config.json, a few kB, says how large the fine-tune is
    except CheckpointError:
        return None  # loading it says what is wrong
    return None


def _stored_quantization(spec: ModelSpec, base: str | None, progress: Progress) -> str | None:
    """Name of the quantization that a checkpoint is stored in; None if it is not quantized."""
    config = open_checkpoint(spec.source, base, progress).config
    return None if config.quantization is None else _name(config)


def _name(config: ModelConfig) -> str:
    assert config.quantization is not None  # noqa: S101 - its callers have looked
    return f"{config.quantization.name} as stored"


def _row_bytes(model: Model) -> int:
    """What the key/value cache of a row takes at most."""
    lm = model.config.lm
    per_value = _FLOAT32 if "float32" in model.engine.dtype else 2
    return 2 * lm.num_layers * lm.dim * CACHED_COLUMNS * per_value


def _approximate_bytes(model: Model) -> int:
    lm = model.config.lm
    weights = 16 * lm.dim**2 * lm.num_layers + 2 * lm.num_codebooks * lm.cardinality * lm.dim
    quantization = model.config.quantization
    if quantization is not None:
        ways = list(quantization.modules.values()) or [quantization.default]
        wide = model.engine.name == "openvino"  # which computes other widths in float32
        bits = [32 if wide and way.bits not in (4, 8) else way.bits + 1 for way in ways]
        per_weight = sum(bits) / len(bits) / 8
    else:
        per_weight = _FLOAT32 if "float32" in model.engine.dtype else 2
    return round(weights * per_weight + _FLOAT32 * _T5_AND_CODEC)
