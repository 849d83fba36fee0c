"""Variants: what a matrix compares, one row each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.recipe import Recipe
from ..errors import RequestError
from ..model import ACTIVATIONS, CAST_DTYPES, Model, load
from ..progress import SILENT, Progress
from ..recipe_options import method_options

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Variant:
    """One way to run a checkpoint.

    Attributes:
        name: a short one, which files are named after: letters, digits, `.`, `+` and `-`.
        cast_dtype: what the language model's weights are cast to first; None leaves them as stored.
        recipe: what is quantized in memory; None runs the checkpoint as it is.
        checkpoint: runs in the place of the one that is compared with: what `segue quantize` made
            of that, a folder or a repository.
        kv_bits, activations: see `segue.load`.

    Raises:
        RequestError: a name that cannot name a file, no such type, or a recipe for what is
            quantized already.
    """

    name: str
    cast_dtype: str | None = None
    recipe: Recipe | None = None
    checkpoint: str | None = None
    kv_bits: int | None = None
    activations: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RequestError(
                "a row's name is made of letters, digits, '.', '+' and '-', at most 100 of them, "
                f"unlike {self.name!r}"
            )
        if self.cast_dtype is not None and self.cast_dtype not in CAST_DTYPES:
            raise RequestError(
                f"no cast dtype {self.cast_dtype!r}; there are {', '.join(CAST_DTYPES)}"
            )

        if self.activations is not None and self.activations not in ACTIVATIONS:
            raise RequestError(
                f"no activations {self.activations!r}; there are {', '.join(ACTIVATIONS)}"
            )
        if self.checkpoint is not None and (self.recipe or self.cast_dtype):
            raise RequestError(
                f"{self.checkpoint} runs as it is; leave out what is cast or quantized"
            )

    @property
    def plain(self) -> bool:
        """Whether it is the checkpoint as it is stored."""
        changes = (
            *(self.cast_dtype, self.recipe, self.checkpoint),
            *(self.kv_bits, self.activations),
        )
        return all(change is None for change in changes)

    def load(
        self,
        model: str,
        base_model: str | None = None,
        engine: str = "auto",
        progress: Progress = SILENT,
    ) -> Model:
        """Load the checkpoint `model` this way; see `segue.load`."""
        return load(
            self.checkpoint or model,
            base_model=base_model,
            engine=engine,
            cast_dtype=self.cast_dtype,
            recipe=self.recipe,
            kv_bits=self.kv_bits,
            activations=self.activations,
            progress=progress,
        )

    def options(self) -> list[str]:
        """Return the options of `segue continue` and `segue bench` that mean it."""
        options = [] if self.cast_dtype is None else ["--cast-dtype", self.cast_dtype]
        if self.recipe is not None and self.recipe.plan is not None and self.recipe.plan.file:
            options += ["--recipe", self.recipe.plan.file]
            options += method_options(self.recipe) or ["--method", self.recipe.method]
        elif self.recipe is not None:
            options += ["--quantize", "--quant-scope", self.recipe.scope]
            options += ["--q-bits", str(self.recipe.bits)]
            options += ["--q-group-size", str(self.recipe.group_size)]
            options += ["--q-mode", self.recipe.mode]
            options += method_options(self.recipe)
        if self.kv_bits is not None:
            options += ["--kv-bits", str(self.kv_bits)]
        return options + (["--activations", self.activations] if self.activations else [])

    def to_json(self) -> dict[str, Any]:
        """Return what reports have of it, beside its name."""
        recipe = None if self.recipe is None else self.recipe.to_json()
        found = {"cast_dtype": self.cast_dtype, "recipe": recipe}
        rest: dict[str, Any] = {"checkpoint": self.checkpoint, "kv_bits": self.kv_bits}
        rest["activations"] = self.activations
        return found | {name: value for name, value in rest.items() if value is not None}

    @classmethod
    def from_json(cls, name: str, entry: Mapping[str, Any]) -> Variant:
        """Return the variant that `to_json` described.

        Raises:
            RequestError: there is no such quantization or type.
        """
        recipe = entry["recipe"]
        recipe = None if recipe is None else Recipe.from_json(recipe)
        rest = (entry.get(key) for key in ("checkpoint", "kv_bits", "activations"))
        return cls(name, entry["cast_dtype"], recipe, *rest)

    @classmethod
    def of_checkpoint(
        cls, checkpoint: str, kv_bits: int | None = None, activations: str | None = None
    ) -> Variant:
        """Return the variant that is a checkpoint of its own, named after its last part."""
        last = Path(checkpoint).name or Path(checkpoint).resolve().name
        name = re.sub(r"[^A-Za-z0-9.+-]+", "-", last).lstrip(".+-")[:100]
        return cls(
            name or "variant", checkpoint=checkpoint, kv_bits=kv_bits, activations=activations
        )


def name_of(
    cast_dtype: str | None,
    recipe: Recipe | None,
    kv_bits: int | None = None,
    activations: str | None = None,
) -> str:
    """Return a name that says what a variant is: `float16-q8-g64-decoder-linears`."""
    parts = [cast_dtype, None if recipe is None else recipe.name]
    parts.append(None if kv_bits is None else f"kv{kv_bits}")
    parts.append(activations)
    return "-".join(part for part in parts if part) or "baseline"


BASELINE = Variant("baseline")
"""The checkpoint as it is stored."""
