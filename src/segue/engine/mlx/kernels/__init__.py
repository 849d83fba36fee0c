"""Fused CUDA kernels for a decode step, each optional, each beside a portable way to the same.

At batch 1 a step's time is the host's, a few microseconds for everything that is launched, so each
of these does what takes several primitives.  `step` chooses: a kernel that is off, or that does not
take a case (its function returns None; `layer_fits` says no), leaves it to other kernels, or
to MLX's own primitives.

Everything is computed in float32 and rounded to the model's type T where the portable way rounds.
"""

from __future__ import annotations

from .attention import attend
from .choosing import (
    ATTEND,
    EMBED,
    FASTER,
    LAYER,
    LINEAR,
    NAMES,
    SAMPLE,
    available,
    chosen,
    on_cuda,
    wanted,
)
from .embedding import embed
from .layer import layer_fits, layer_forward, packed_layer, packed_text, tokens_of
from .product import linear
from .runtime import VARIABLE, compile_error
from .sampling import sample

__all__ = [
    "ATTEND",
    "EMBED",
    "FASTER",
    "LAYER",
    "LINEAR",
    "NAMES",
    "SAMPLE",
    "VARIABLE",
    "attend",
    "available",
    "chosen",
    "compile_error",
    "embed",
    "layer_fits",
    "layer_forward",
    "linear",
    "on_cuda",
    "packed_layer",
    "packed_text",
    "sample",
    "tokens_of",
    "wanted",
]
