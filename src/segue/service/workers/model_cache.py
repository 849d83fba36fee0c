"""The models that a player holds ready: the last ones used, as many as memory has room for."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ...checkpoints import hub
from ...checkpoints.config import ModelConfig
from ...checkpoints.opening import open_checkpoint
from ...checkpoints.recipe import Recipe
from ...errors import CheckpointError, RequestError
from ...model import Model, engine_for, load
from ...progress import Progress
from .quantized_cache import Variants

_T5_AND_CODEC = 170_000_000
_FLOAT32 = 4


@dataclass(frozen=True)
class Asked:
    """Which model, as a task says it.

    Attributes:
        source: what `hub.locate` is asked for.
        base: the catalogue's base of a fine-tune.
        mode: the name of the quantization.
        recipe: how it is quantized; None runs it as it is.
        demanded: whether a model that cannot be quantized so is an error.
    """

    source: str
    base: str | None
    mode: str
    recipe: Recipe | None
    demanded: bool

    @classmethod
    def of(cls, task: dict[str, Any]) -> Asked:
        """From a task."""
        recipe = task["recipe"]
        return cls(
            task["source"],
            task["base"],
            task["quantization"],
            None if recipe is None else Recipe(**recipe),
            task["demanded"],
        )


@dataclass(frozen=True, eq=False)
class Ready:
    """A loaded model.

    Attributes:
        model: itself.
        quantization: what runs, in a word.
        bytes: about what it takes in memory.
    """

    model: Model
    quantization: str
    bytes: int


class Loaded:
    """Loads models, and lets those go that were not used for longest.

    Args:
        engine, threads: see `segue.load`.
        variants: where quantized checkpoints are kept.
        budget: bytes of memory; the model that is used now stays, however large.
    """

    def __init__(self, engine: str, threads: int | None, variants: Variants, budget: int) -> None:
        self._engine = engine_for(engine)
        self._threads = threads if self._engine == "openvino" else None
        self._variants, self._budget = variants, budget
        self._ready: OrderedDict[tuple[str, str], Ready] = OrderedDict()

    def has(self, asked: Asked) -> bool:
        """Whether it need not be loaded."""
        return (asked.source, asked.mode) in self._ready

    def get(self, asked: Asked, progress: Progress) -> Ready:
        """The model, loaded if it is not.

        Raises:
            CheckpointError: it cannot be used.
            RequestError: it cannot be quantized as demanded.
        """
        key = (asked.source, asked.mode)
        if (ready := self._ready.get(key)) is None:
            self._make_room(self._expected_bytes(asked))
            ready = self._load(asked, progress)
            self._ready[key] = ready
            self._make_room(0)
        if asked.demanded and ready.quantization != asked.mode:
            raise _quantized_already(ready.quantization)
        self._ready.move_to_end(key)
        return ready

    def _make_room(self, wanted: int) -> None:
        spare = 1 if wanted == 0 else 0  # what was asked for last stays
        while len(self._ready) > spare and wanted + self._bytes() > self._budget:
            self._ready.popitem(last=False)
            gc.collect()
            if (mx := sys.modules.get("mlx.core")) is not None:
                mx.clear_cache()

    def _bytes(self) -> int:
        return sum(ready.bytes for ready in self._ready.values())

    def _expected_bytes(self, asked: Asked) -> int:
        folder = hub.find_local(asked.source)
        if folder is None or not self._ready:
            return 0
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

    def _load(self, asked: Asked, progress: Progress) -> Ready:
        base = _base(asked)
        recipe, mode = asked.recipe, asked.mode
        if recipe is not None and (stored := _stored_quantization(asked, base, progress)):
            if asked.demanded:
                raise _quantized_already(stored)
            recipe, mode = None, stored
        folder = None
        if recipe is not None:
            folder = self._variants.find_or_make(asked.source, base, recipe, progress)
        if folder is not None:
            model = self._loaded(str(folder), None, None, progress)
        else:
            model = self._loaded(asked.source, base, recipe, progress)
        if recipe is None and model.config.quantization is not None:
            mode = _name(model.config)
        return Ready(model, mode, _approximate_bytes(model))

    def _loaded(
        self, name: str, base: str | None, recipe: Recipe | None, progress: Progress
    ) -> Model:
        with progress.stage("load"):
            return load(
                name,
                base_model=base,
                engine=self._engine,
                threads=self._threads,
                recipe=recipe,
                progress=progress,
            )


def _quantized_already(stored: str) -> RequestError:
    return RequestError(
        f"this model is stored quantized already ({stored}); ask for quantization_mode none to "
        "play it as it is"
    )


def _base(asked: Asked) -> str | None:
    """The base model of a fine-tune, if it is needed, or here and so of use."""
    if asked.base is None or hub.find_local(asked.base) is not None:
        return asked.base
    try:
        open_checkpoint(asked.source)
    except CheckpointError as error:
        # The fine-tune does not say how large it is; the base's config.json, a few kB, does.
        return asked.base if "--base-model" in str(error) else None
    return None


def _stored_quantization(asked: Asked, base: str | None, progress: Progress) -> str | None:
    """What a checkpoint is quantized to on disk, in a word; None if it is not."""
    config = open_checkpoint(asked.source, base, progress).config
    return None if config.quantization is None else _name(config)


def _name(config: ModelConfig) -> str:
    assert config.quantization is not None  # noqa: S101 - its callers have looked
    params = config.quantization.default
    return f"q{params.bits}-g{params.group_size} as stored"


def _approximate_bytes(model: Model) -> int:
    """About what a model takes in memory."""
    lm = model.config.lm
    weights = 16 * lm.dim**2 * lm.num_layers + 2 * lm.num_codebooks * lm.cardinality * lm.dim
    quantization = model.config.quantization
    if quantization is not None:
        per_weight = (quantization.default.bits + 1) / 8
    else:
        per_weight = _FLOAT32 if "float32" in model.engine.dtype else 2
    return round(weights * per_weight + _FLOAT32 * _T5_AND_CODEC)
