"""The kernel `lookup`: rows of a table by their numbers; it goes with `embed`, for many columns.

MLX compiles a kernel of its own for it when it is first used, for each type of the table.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from . import runtime

THREADS = 256

# Whatever the table's type is, its rows are words of 32 bits.
LOOKUP_SOURCE = """
long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
if (at >= (long long)count * words) return;
out[at] = table[(long long)rows[at / words] * words + at % words];
"""


def lookup(table: nn.Module | mx.array, rows: mx.array) -> mx.array | None:
    """Rows of a table, or of an embedding's, which may be quantized.

    Args:
        table: an embedding, or an array `(R, width)`.
        rows: int32 of any shape, 0 to R - 1.

    Returns:
        `(*rows.shape, width)`, or None where rows are no whole words of 32 bits.
    """
    if isinstance(table, nn.QuantizedEmbedding):
        names = ("weight", "scales", "biases")
        parts = [lookup(table[name], rows) for name in names if table.get(name) is not None]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        weight, scales, *biases = found
        return mx.dequantize(
            weight,
            scales,
            biases[0] if biases else None,
            group_size=table.group_size,
            bits=table.bits,
            mode=table.mode,
        )
    array: mx.array = table.weight if isinstance(table, nn.Module) else table
    width = array.shape[1] * array.dtype.size
    if width % 4:
        return None
    words = width // 4
    (out,) = runtime.run(
        "lookup",
        LOOKUP_SOURCE,
        {"table": array.view(mx.uint32), "rows": rows.astype(mx.int32)},
        {},
        {"out": ((rows.size, words), mx.uint32)},
        blocks=-(-rows.size * words // THREADS),
        threads=THREADS,
        scalars={"count": rows.size, "words": words},
    )
    return out.view(array.dtype).reshape(*rows.shape, array.shape[1])
