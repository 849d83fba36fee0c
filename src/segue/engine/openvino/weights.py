"""Tensors of a checkpoint into constants of graphs, and into tables that the host reads.

Nothing is stored here but the checkpoint's tensors: a graph that is built again reads them again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from ...checkpoints.config import QuantizationConfig
from ...checkpoints.tensors import Tensors
from ...errors import CheckpointError
from ..base import check_finite
from .graph import Output, constant
from .packed import PACKED_BITS, Packed, stacked


def finite(tensors: Tensors, name: str) -> np.ndarray:
    """One tensor of the codec or the text encoder in float32.

    Not all of their NaN and infinities reach the output: a ReLU may take the one for 0, and a gate
    the other for 1.

    Raises:
        ModelOverflowError: it holds one.
    """
    values = tensors[name].read().astype(np.float32)
    return check_finite(values, f"weights of {name}", fixed=True)


@dataclass
class Weights:
    """Weights of the language model, by the names of the checkpoint.

    Attributes:
        tensors: all of them.
        quantization: what is quantized, if anything.
        widened: the quantizations met so far that OpenVINO cannot hold compressed, and which are
            computed in float32, exactly.
    """

    tensors: Tensors
    quantization: QuantizationConfig | None = None
    widened: set[str] = field(default_factory=set)

    def floats(self, name: str) -> np.ndarray:
        """One tensor in float32."""
        return self.tensors[name].read().astype(np.float32, copy=False)

    def matrix(self, modules: list[str]) -> Output:
        """The weights of some modules, below each other, as a constant `(rows, columns)`."""
        packed = self.packed(modules)
        if packed is None:
            parts = [self.floats(f"{module}.weight") for module in modules]
            return constant(np.concatenate(parts) if len(parts) > 1 else parts[0])
        if packed.fits:
            return packed.constant()
        params = packed.params
        self.widened.add(params.mode if params.mode != "affine" else f"{params.bits}-bit")
        return constant(packed.dense())

    def packed(self, modules: list[str]) -> Packed | None:
        """The weights of some modules as they are packed, or None if they are plain."""
        quantized = [f"{module}.scales" in self.tensors for module in modules]
        if self.quantization is None or not any(quantized):
            return None
        params = self.quantization.of(modules[0])
        for module, there in zip(modules, quantized, strict=True):
            if not (there and quantized[0]) or self.quantization.of(module) != params:
                raise CheckpointError(
                    f"{modules[0]} and {module} are quantized differently; segue runs them as one"
                )
        return stacked(
            [
                Packed(
                    params,
                    self.tensors[f"{module}.weight"].read(),
                    self._scales(f"{module}.scales"),
                    self.floats(f"{module}.biases") if params.mode == "affine" else None,
                )
                for module in modules
            ]
        )

    def _scales(self, name: str) -> np.ndarray:
        values = self.tensors[name].read()
        return values if values.dtype == np.uint8 else self.floats(name)


def unpacked_note(
    tensors: Tensors,
    quantization: QuantizationConfig | None,
    kept: Collection[int] = PACKED_BITS,
    otherwise: str = "which OpenVINO does not keep packed: they are computed in float32, exactly, "
    "and take its memory and time",
) -> str | None:
    """Return what to say of a checkpoint of which an engine keeps some modules packed, not all.

    Where all are alike, the engine's type says it.

    Args:
        tensors: of the language model.
        quantization: what is quantized, if anything.
        kept: the bits of a weight that the engine keeps as they are.
        otherwise: what becomes of others.
    """
    if quantization is None or not quantization.modules:
        return None
    names = [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]
    ways = [quantization.of(name) for name in names]
    wide = [way for way in ways if way.mode != "affine" or way.bits not in kept]
    if not wide:
        return None
    bits = ", ".join(map(str, sorted({way.bits for way in wide})))
    return f"{len(wide)} of {len(ways)} quantized modules have {bits} bits, {otherwise}"


class Table:
    """The embeddings of all codebooks in one table, of which the host reads some rows a step."""

    def __init__(self, weights: Weights, modules: list[str]) -> None:
        self._packed = weights.packed(modules)
        if self._packed is None:
            parts = [weights.floats(f"{module}.weight") for module in modules]
            self._plain = np.concatenate(parts)

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Rows `(*at.shape, columns)` float32."""
        return self._plain[at] if self._packed is None else self._packed.rows(at)
