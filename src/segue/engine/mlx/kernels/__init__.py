"""Fused CUDA kernels for a decode step and the codec, each optional, each beside a portable way.

At batch 1 a step's time is the host's, a few microseconds for everything that is launched, so each
of these does what takes several primitives.  `step` chooses: a kernel that is off, or that does not
take a case (its function returns None; `layer_fits` says no), leaves it to other kernels, or
to MLX's own primitives.

Everything is computed in float32 and rounded to the model's type T where the portable way rounds.
"""

from __future__ import annotations

from ..device import on_cuda
from .attention import attend
from .cache_rows import write_rows
from .choosing import (
    ATTEND,
    CODEC,
    CONVOLVE,
    EMBED,
    FASTER,
    LAYER,
    LINEAR,
    LSTM,
    NAMES,
    SAMPLE,
    available,
    chosen,
    wanted,
)
from .convolution import convolution_fits, convolve, convolve_transposed, transposed_fits
from .embedding import embed
from .gelu import gelu
from .layer import (
    alike,
    heads_fit,
    layer_fits,
    layers_forward,
    packed_heads,
    packed_layer,
    packed_text,
    tokens_of,
)
from .lookup import lookup
from .product import linear
from .recurrence import MAX_ROWS as MAX_LSTM_ROWS
from .recurrence import lstm, lstm_fits
from .runtime import VARIABLE, compile_error
from .sampling import sample

__all__ = [
    "ATTEND",
    "CODEC",
    "CONVOLVE",
    "EMBED",
    "FASTER",
    "LAYER",
    "LINEAR",
    "LSTM",
    "MAX_LSTM_ROWS",
    "NAMES",
    "SAMPLE",
    "VARIABLE",
    "alike",
    "attend",
    "available",
    "chosen",
    "compile_error",
    "convolution_fits",
    "convolve",
    "convolve_transposed",
    "embed",
    "gelu",
    "heads_fit",
    "layer_fits",
    "layers_forward",
    "linear",
    "lookup",
    "lstm",
    "lstm_fits",
    "on_cuda",
    "packed_heads",
    "packed_layer",
    "packed_text",
    "sample",
    "tokens_of",
    "transposed_fits",
    "wanted",
    "write_rows",
]
