"""How the modules of a checkpoint are quantized: the `quantization` block of a `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class QuantizationConfig:
    """What is quantized in a checkpoint, in the form that mlx-lm writes.

    Attributes:
        default: for every quantized module that is not in `modules`.
        modules: the exceptions, by module name.
    """

    default: QuantizationParams
    modules: Mapping[str, QuantizationParams]

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
            n: params(e, f"{name}.{n}") for n, e in block.items() if isinstance(e, Mapping)
        }
        return cls(params(block, name), exceptions)
