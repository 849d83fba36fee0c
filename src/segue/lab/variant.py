"""Variants: what a matrix compares, one row each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..checkpoints.recipe import Recipe
from ..errors import RequestError
from ..model import CAST_DTYPES, Model, load
from ..progress import SILENT, Progress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Variant:
    """One way to run a checkpoint.

    Attributes:
        name: a short one, which files are named after: letters, digits, `.`, `+` and `-`.
        cast_dtype: what the language model's weights are cast to first; None leaves them as stored.
        recipe: what is quantized in memory; None runs the checkpoint as it is.

    Raises:
        RequestError: a name that cannot name a file, or no such type.
    """

    name: str
    cast_dtype: str | None = None
    recipe: Recipe | None = None

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

    def load(
        self,
        model: str,
        base_model: str | None = None,
        engine: str = "auto",
        progress: Progress = SILENT,
    ) -> Model:
        """Load the checkpoint `model` this way; see `segue.load`."""
        return load(
            model,
            base_model=base_model,
            engine=engine,
            cast_dtype=self.cast_dtype,
            recipe=self.recipe,
            progress=progress,
        )

    def options(self) -> list[str]:
        """Return the options of `segue continue` and `segue bench` that mean it."""
        options = [] if self.cast_dtype is None else ["--cast-dtype", self.cast_dtype]
        if self.recipe is not None:
            options += ["--quantize", "--quant-scope", self.recipe.scope]
            options += ["--q-bits", str(self.recipe.bits)]
            options += ["--q-group-size", str(self.recipe.group_size)]
            options += ["--q-mode", self.recipe.mode]
        return options

    def to_json(self) -> dict[str, Any]:
        """Return what reports have of it, beside its name."""
        recipe = None if self.recipe is None else asdict(self.recipe)
        return {"cast_dtype": self.cast_dtype, "recipe": recipe}

    @classmethod
    def from_json(cls, name: str, entry: Mapping[str, Any]) -> Variant:
        """Return the variant that `to_json` described.

        Raises:
            RequestError: there is no such quantization or type.
        """
        recipe = entry["recipe"]
        return cls(name, entry["cast_dtype"], None if recipe is None else Recipe(**recipe))


def name_of(cast_dtype: str | None, recipe: Recipe | None) -> str:
    """Return a name that says what a variant is: `float16-q8-g64-decoder-linears`."""
    parts = [cast_dtype, None if recipe is None else recipe.name]
    return "-".join(part for part in parts if part) or "baseline"


BASELINE = Variant("baseline")
"""The checkpoint as it is stored."""
