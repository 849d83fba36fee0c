"""Distillation on disk: its state, so that what was stopped goes on, and what came out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .. import atomic
from ..checkpoints.recipe import Recipe
from ..checkpoints.tensors import Tensors
from ..errors import RequestError
from .calibration import CalibrationSet
from .layer_cache import cache_folder, sweep
from .trainables import Arrays
from .weights import samples_of

MAX_BYTES = 4 << 30
"""Of all results that are kept; MusicGen-large in groups of 64 has 0.2 GB."""

STATE, RESULT = "state.safetensors", "trained.safetensors"

Numbers = dict[str, float]
"""What goes with arrays: steps that were made, nats that were lost."""


@dataclass(frozen=True)
class DistillingCache:
    """One folder in `$XDG_CACHE_HOME/segue/distill`, by default in `~/.cache/segue/distill`.

    Attributes:
        folder: named after all that decides the result, hashed.
    """

    folder: Path

    @classmethod
    def of(
        cls,
        facts: Any,
        recipe: Recipe,
        music: CalibrationSet,
        lm: Tensors,
        root: Path | None = None,
    ) -> DistillingCache:
        """Return the folder of one distillation; it need not be there.

        Args:
            facts: what decides the result beside the following, as JSON.
            recipe: what is quantized.
            music: what is trained and chosen on.
            lm: the language model as it is.
            root: where the folder lies; None is segue's cache.
        """
        plan = () if recipe.plan is None else recipe.plan.modules
        how = [recipe.scope, recipe.method, repr(recipe.params), repr(plan)]
        seen = [music.digest, CalibrationSet(music.held_out).digest]
        digest = hashlib.sha256(json.dumps([facts, how, seen], sort_keys=True).encode())
        for part in samples_of(lm):
            digest.update(part)
        return cls((root or cache_folder("distill")) / digest.hexdigest()[:32])

    def state(self) -> tuple[Arrays, Numbers] | None:
        """Return what `write_state` wrote; None if nothing, or nothing whole."""
        return _read(self.folder / STATE)

    def result(self) -> tuple[Arrays, Numbers] | None:
        """Return what `write_result` wrote; None if nothing, or nothing whole."""
        return _read(self.folder / RESULT)

    def write_state(self, arrays: Mapping[str, np.ndarray], numbers: Numbers) -> None:
        """Keep the state.

        Raises:
            RequestError: the disk is full, or the folder cannot be written to.
        """
        self._write(STATE, arrays, numbers)

    def write_result(self, arrays: Mapping[str, np.ndarray], numbers: Numbers) -> None:
        """Keep the result; the state is not needed any more.

        Raises:
            RequestError: see `write_state`.
        """
        self._write(RESULT, arrays, numbers)
        (self.folder / STATE).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Make room by what was not used for longest."""
        sweep(self.folder.parent, keep=self.folder, limit=MAX_BYTES)

    def _write(self, name: str, arrays: Mapping[str, np.ndarray], numbers: Numbers) -> None:
        whole = {key: np.ascontiguousarray(values) for key, values in arrays.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(self.folder / name) as temporary:
                save_file(whole, temporary, {"numbers": json.dumps(numbers)})
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(
                f"{self.folder}: cannot be written ({reason}); point XDG_CACHE_HOME to a folder "
                "with room"
            ) from None


def _read(path: Path) -> tuple[Arrays, Numbers] | None:
    try:
        with safe_open(path, framework="numpy") as file:
            numbers = json.loads((file.metadata() or {})["numbers"])
            return {name: file.get_tensor(name) for name in file.keys()}, numbers  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
