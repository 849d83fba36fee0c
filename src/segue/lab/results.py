"""What a `matrix.json` holds, read once into types; see `figures` for what is measured of a row.

A report must be readable whatever became of a row, and whoever wrote the file: nothing here raises
for what a file holds but `Matrix.read`, and `Row.variant`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .figures import BenchFigures, QualityFigures, dig, number, text
from .files import read_json
from .variant import Variant

SCHEMA = 1
FILE = "matrix.json"


@dataclass(frozen=True)
class Row:
    """A row of a matrix: one variant, and what was measured of it.

    Attributes:
        index: its number, from 0.
        name: of the variant.
        status: `"ok"`, `"failed"` or `"missing"`; None where the file has none.
        error: why it failed, or why its quality could not be measured.
        cast_dtype: what the weights were cast to.
        recipe: what was quantized, as the file has it.
        checkpoint: what ran in the place of the matrix's checkpoint; None for that itself.
        kv_bits: of a key or value in the cache; None for the engine's own.
        activations: what quantized weights were multiplied with; None for the engine's own.
        bench, quality: what was measured; everything in them is None where nothing was.
        audio: names of WAV files beside the `matrix.json`, `full` and `continuation`.
    """

    index: int
    name: str
    status: str | None = None
    error: str | None = None
    cast_dtype: str | None = None
    recipe: Mapping[str, Any] | None = None
    checkpoint: str | None = None
    kv_bits: int | None = None
    activations: str | None = None
    bench: BenchFigures = field(default_factory=BenchFigures)
    quality: QualityFigures = field(default_factory=QualityFigures)
    audio: Mapping[str, Any] | None = None

    @property
    def plain(self) -> bool:
        """Whether it is the checkpoint as it is stored."""
        changes = (
            *(self.recipe, self.cast_dtype, self.checkpoint),
            *(self.kv_bits, self.activations),
        )
        return all(change is None for change in changes)

    @property
    def generate_seconds(self) -> float | None:
        """Median seconds of the decode steps; all rows of a matrix generate as many frames."""
        return (self.bench.timings or {}).get("token_generate_s") if self.status == "ok" else None

    def variant(self) -> Variant:
        """Return the row's variant.

        Raises:
            RequestError: there is no such quantization or type.
        """
        recipe = None if self.recipe is None else dict(self.recipe)
        rest: dict[str, Any] = {"checkpoint": self.checkpoint, "kv_bits": self.kv_bits}
        rest["activations"] = self.activations
        return Variant.from_json(
            self.name, {"cast_dtype": self.cast_dtype, "recipe": recipe} | rest
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any], index: int) -> Row:
        """Read a row, which was number `index` of the file."""
        recipe, audio = dig(found, "variant", "recipe"), found.get("audio")
        kv = number(found, "variant", "kv_bits")
        return cls(
            index=index,
            name=str(found.get("name") or f"row {index + 1}"),
            status=text(found, "status"),
            error=text(found, "error"),
            cast_dtype=text(found, "variant", "cast_dtype"),
            recipe=recipe if isinstance(recipe, Mapping) else None,
            checkpoint=text(found, "variant", "checkpoint"),
            kv_bits=None if kv is None else int(kv),
            activations=text(found, "variant", "activations"),
            bench=BenchFigures.from_json(found.get("bench")),
            quality=QualityFigures.from_json(found.get("quality")),
            audio=audio if isinstance(audio, Mapping) else None,
        )


@dataclass(frozen=True)
class Pick:
    """The row to use.

    Attributes:
        name: of the row.
        why: a few sentences.
        environment: lines for the service's environment; none where they have no words for it.
        command: that continues a prompt with it.
    """

    name: str
    why: str = ""
    environment: tuple[str, ...] = ()
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the pick as `matrix.json` has it."""
        return asdict(self) | {"environment": list(self.environment)}

    @classmethod
    def from_json(cls, found: Any) -> Pick | None:
        """Read the pick of a file; None if there is none."""
        if not isinstance(found, Mapping):
            return None
        environment = found.get("environment")
        return cls(
            name=text(found, "name") or "",
            why=text(found, "why") or "",
            environment=tuple(map(str, environment)) if isinstance(environment, list) else (),
            command=text(found, "command") or "",
        )


@dataclass(frozen=True)
class Matrix:
    """A matrix that was read.

    Attributes:
        model, base_model, prompt, seed: as they were given.
        created: when, ISO 8601.
        max_kl: the budget of the pick, in nats per token.
        request, machine, versions: as the file has them.
        rows: in the file's order; the first is the baseline.
        pick: the row to use.
    """

    model: str | None = None
    base_model: str | None = None
    prompt: str | None = None
    seed: str | None = None
    created: str | None = None
    max_kl: float | None = None
    request: Any = None
    machine: Any = None
    versions: Any = None
    rows: tuple[Row, ...] = ()
    pick: Pick | None = None

    def is_picked(self, row: Row) -> bool:
        """Whether a row is the pick."""
        return self.pick is not None and self.pick.name == row.name

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Matrix:
        """Read what `matrix.json` holds."""
        rows = found.get("rows")
        rows = rows if isinstance(rows, list | tuple) else []
        rows = [row for row in rows if isinstance(row, Mapping)]
        return cls(
            model=text(found, "model"),
            base_model=text(found, "base_model"),
            prompt=text(found, "prompt"),
            seed=text(found, "seed"),
            created=text(found, "created"),
            max_kl=number(found, "max_kl"),
            request=found.get("request"),
            machine=found.get("machine"),
            versions=found.get("versions"),
            rows=tuple(Row.from_json(row, index) for index, row in enumerate(rows)),
            pick=Pick.from_json(found.get("pick")),
        )

    @classmethod
    def read(cls, folder: Path) -> Matrix:
        """Read the `matrix.json` of a folder.

        Raises:
            RequestError: there is none, or it is none that this version can read.
        """
        return cls.from_json(read_json(folder / FILE, SCHEMA))
