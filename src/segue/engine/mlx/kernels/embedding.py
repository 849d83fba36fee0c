"""The kernel `embed`: codebooks' rows, their sum, the position."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from . import runtime

EMBED_SOURCE = """
int at = blockIdx.x * blockDim.x + threadIdx.x;
if (at >= ROWS * DIM) return;
int row = at / DIM, d = at % DIM, take = row % TAKES;
float sum = 0;
#pragma unroll
for (int k = 0; k < CODEBOOKS; k++) {
  long long entry = (long long)k * ENTRIES + tokens[take * CODEBOOKS + k];
  sum += static_cast<float>(table[entry * DIM + d]);
}
float place = rounded<T>(positions[(long long)column[OWN_POSITIONS ? row : 0] * DIM + d]);
out[at] = static_cast<T>(rounded<T>(sum) + place);
"""


def embed(
    tokens: mx.array, table: nn.Module, positions: mx.array, column: mx.array, rows: int
) -> mx.array | None:
    """Hidden states `(rows, dim)`, or None where the table is quantized; see `Step.embed`.

    Args:
        tokens: `(N, K)` int32.
        table: of all codebooks.
        positions: `(L, dim)`, from which a row is added.
        column: the number of that row, `(1,)` int32, or `(rows,)` if each has its own.
        rows: N, or 2N where each take has two.
    """
    if not isinstance(table, nn.Embedding):
        return None
    (takes, codebooks), dim = tokens.shape, table.weight.shape[1]
    (out,) = runtime.run(
        "embed",
        EMBED_SOURCE,
        {"tokens": tokens, "table": table.weight, "positions": positions, "column": column},
        {
            "T": table.weight.dtype,
            "ROWS": rows,
            "DIM": dim,
            "TAKES": takes,
            "CODEBOOKS": codebooks,
            "ENTRIES": table.weight.shape[0] // codebooks,
            "OWN_POSITIONS": column.size > 1,
        },
        {"out": ((rows, dim), table.weight.dtype)},
        blocks=-(-rows * dim // 256),
        threads=256,
    )
    return out
