"""How the modules of a checkpoint are quantized: the `quantization` block of a `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from . import hugging_face_fields as hugging_face
from .schema import Json, read_fields


@dataclass(frozen=True)
class QuantizationParams:
    """How one module is quantized, with the arguments of `mlx.core.quantize`.

    Attributes:
        bits: of one weight.
        group_size: weights that share a scale.
        mode: `"affine"`, `"mxfp4"`, `"mxfp8"` or `"nvfp4"`.
    """

    bits: int
    group_size: int
    mode: str = "affine"


NEAREST: Mapping[str, Any] = MappingProxyType({"name": "nearest", "version": 1})
"""How a block is quantized that does not say it: every block that another program wrote."""

METHOD = "method"
"""The entry that says how, and is no module."""


@dataclass(frozen=True)
class QuantizationConfig:
    """What is quantized in a checkpoint, in the form that mlx-lm writes.

    Attributes:
        default: for every quantized module that is not in `modules`.
        modules: the exceptions, by module name.
        method: how the integers were chosen, for people: its `name` and `version`, and what it was
            calibrated on.  Nothing that is computed depends on it.
    """

    default: QuantizationParams
    modules: Mapping[str, QuantizationParams]
    method: Mapping[str, Any] = field(default_factory=lambda: NEAREST, compare=False)

    def of(self, module: str) -> QuantizationParams:
        """Return how `module` is quantized, if it is."""
        return self.modules.get(module, self.default)

    @classmethod
    def from_json(cls, block: Json) -> QuantizationConfig:
        """Read the `quantization` block of a `config.json`.

        Raises:
            CheckpointError: it lacks bits or group size, or MLX does not have them.
        """

        def params(entry: Json, where: str) -> QuantizationParams:
            return QuantizationParams(**read_fields(entry, hugging_face.QUANTIZATION, where))

        name = "quantization"
        exceptions = {
            n: params(e, f"{name}.{n}")
            for n, e in block.items()
            if isinstance(e, Mapping) and n != METHOD
        }
        method = block.get(METHOD)
        if not isinstance(method, Mapping) or not isinstance(method.get("name"), str):
            method = NEAREST
        return cls(params(block, name), exceptions, method)

    def to_json(self) -> dict[str, Any]:
        """Return the block; the method only where it is not the nearest value."""
        method = {} if self.method == NEAREST else {METHOD: dict(self.method)}
        modules = {name: asdict(params) for name, params in self.modules.items()}
        return asdict(self.default) | method | modules

    @property
    def name(self) -> str:
        """A short name: `q4-g64`, with the method where it is not the nearest value."""
        method = "" if self.method["name"] == "nearest" else f"-{self.method['name']}"
        return f"q{self.default.bits}-g{self.default.group_size}{method}"
