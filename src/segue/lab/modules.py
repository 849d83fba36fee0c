"""The language model's modules: which are quantized, and how many bytes a step reads of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import QuantizationParams
from ..checkpoints.layouts import LM, PROJECTION
from ..checkpoints.recipe import Recipe
from ..engine.base import Engine

_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}

# Of an embedding a step reads a row; keys and values of the text are projected once.
_READ_ONCE = re.compile(
    rf"{re.escape(PROJECTION)}|{re.escape(LM)}(embed_tokens\.|layers\.\d+\.encoder_attn\.[kv]_proj)"
)
_LINEARS = Recipe()
"""Whose scope is the layers' and heads' products."""

_OF_TEXT = re.compile(rf"{re.escape(LM)}layers\.\d+\.encoder_attn")


@dataclass
class Modules:
    """The language model's modules, as a variant has them.

    Attributes:
        quantized: modules that are quantized, on disk or in memory.
        left: modules in the recipe's scope whose rows do not fit.
        bytes: what each module holds.
        weights: of each of the layers' and heads' products how many weights it has, and the bits
            of one, scales and biases in float16 included.
    """

    quantized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    bytes: dict[str, int] = field(default_factory=dict)
    weights: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def bits_per_weight(self) -> float:
        """Bits of one of the layers' and heads' weights, on average."""
        total = sum(count for count, _ in self.weights.values())
        return sum(count * bits for count, bits in self.weights.values()) / max(1, total)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights of the language model."""
        return sum(self.bytes.values())

    def step_bytes(self, with_text: bool) -> int:
        """Return the bytes of the weights that every decode step reads."""
        return sum(
            size
            for module, size in self.bytes.items()
            if not _READ_ONCE.match(module) and (with_text or not _OF_TEXT.match(module))
        )


def modules_of(checkpoint: Checkpoint, recipe: Recipe | None, engine: Engine) -> Modules:
    """Return the modules of an opened checkpoint as `engine` holds them; only headers are read.

    Args:
        checkpoint: opened; nothing may have been taken from it.
        recipe: what is quantized in memory.
        engine: what runs it.
    """
    # What an engine unpacks it names behind its type: "float32 (3-bit weights widened to it)".
    dtype, *widened = re.split(r"[\s,()]+", engine.dtype)
    item = _ITEM_BYTES[dtype]
    found, on_disk = Modules(), checkpoint.config.quantization
    for name, tensor in checkpoint.lm.items():
        module, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            continue
        rows, columns = math.prod(tensor.shape[:-1]), tensor.shape[-1]
        params: QuantizationParams | None = None
        if kind != "weight":
            pass
        elif on_disk is not None and f"{module}.scales" in checkpoint.lm:
            params = on_disk.of(module)
            columns = checkpoint.lm[f"{module}.scales"].shape[-1] * params.group_size
        elif recipe is not None and recipe.covers(module):
            if recipe.fits(columns, module):
                params = recipe.params_of(module)
            else:
                found.left.append(module)
        if params is not None:
            found.quantized.append(module)
        if kind == "weight" and _LINEARS.covers(module):
            found.weights[module] = (rows * columns, _stored_bits(params))
        size = rows * columns * item
        if params is not None and _kind(params) not in widened:
            scale = 2 * item if params.mode == "affine" else 1
            size = rows * (columns * params.bits // 8 + columns // params.group_size * scale)
        found.bytes[module] = found.bytes.get(module, 0) + size
    found.bytes |= {module: size for module, size in engine.held.items() if module in found.bytes}
    return found


def _stored_bits(params: QuantizationParams | None) -> float:
    """Bits of a weight in a file: 16 where it is not quantized."""
    if params is None:
        return 16.0
    return params.bits + (32 if params.mode == "affine" else 8) / params.group_size


def _kind(params: QuantizationParams) -> str:
    return f"{params.bits}-bit" if params.mode == "affine" else params.mode
