"""The kernel `write_rows`: a prompt's keys and values into rows of a cache; it goes with `attend`.

MLX's own way writes in place only where nothing else refers to the cache, which a step under way
does; it copies all of it otherwise.  All layers are one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import mlx.core as mx
import numpy as np

from . import runtime

THREADS = 256

LEAST_ENTRIES = 4
"""MLX keeps an array of eight bytes or less in the host's memory, where every thread would read."""

WRITE_ROWS_SOURCE = """
constexpr int CHUNKS = D / 8;
int layer = blockIdx.x / blocks;
long long at = (long long)(blockIdx.x % blocks) * blockDim.x + threadIdx.x;
if (blockIdx.x == 0 && threadIdx.x < LEAST) done[threadIdx.x] = 1;
int d = at % CHUNKS, position = at / CHUNKS % length;
long long head = at / CHUNKS / length;
int row = head / (2 * HEADS), part = head / HEADS % 2;
if (row >= rows) return;
const T* product;
T* cache;
switch (layer) {
CASES
}
head %= HEADS;
int slot = places[2 * row], from = places[2 * row + 1];
Chunk<T> value = {};
if (position < filled)
  value = reinterpret_cast<const Chunk<T>*>(product)[
      ((((long long)from * positions + position) * 3 + 1 + part) * HEADS + head) * CHUNKS + d];
reinterpret_cast<Chunk<T>*>(cache)[
    ((((long long)slot * 2 + part) * HEADS + head) * length + position) * CHUNKS + d] = value;
"""


@cache
def _source(layers: int) -> str:
    cases = (
        f"{'default' if n == layers - 1 else f'case {n}'}: "
        f"product = product{n}; cache = const_cast<T*>(cache{n}); break;"
        for n in range(layers)
    )
    text = WRITE_ROWS_SOURCE.replace("CASES", "\n".join(cases))
    return text.replace("LEAST", str(LEAST_ENTRIES))


def write_rows(
    caches: Sequence[mx.array],
    products: Sequence[mx.array],
    slots: Sequence[int],
    rows: Sequence[int],
    filled: int,
) -> mx.array:
    """Write keys and values to rows of each layer's cache, in place, with zeros behind them.

    What is submitted before, in the same stream, still reads what was there; what is submitted
    after the output is evaluated reads what is written.

    Args:
        caches: of each layer `(B, 2, H, L, D)`, contiguous, D a multiple of eight.
        products: of each layer `(R, S, 3 * H * D)`, queries, keys and values, of the same type.
        slots: the rows of the cache that are written, all different.
        rows: for each of them the row of the product.
        filled: positions that count, of which those after L are left out.

    Returns:
        Something to evaluate: nobody needs its value.
    """
    _, _, heads, length, dim = caches[0].shape
    missing = max(0, LEAST_ENTRIES - len(slots))
    places = np.pad(np.stack([slots, rows], axis=1).astype(np.int32), [(0, missing), (0, 0)])
    blocks = -(-len(slots) * 2 * heads * length * dim // 8 // THREADS)
    arrays = {f"product{n}": product for n, product in enumerate(products)}
    arrays |= {f"cache{n}": kv for n, kv in enumerate(caches)}
    (done,) = runtime.run(
        "write_rows",
        _source(len(caches)),
        {**arrays, "places": mx.array(places)},
        {"T": caches[0].dtype, "HEADS": heads, "D": dim},
        {"done": ((LEAST_ENTRIES,), mx.int32)},
        blocks=blocks * len(caches),
        threads=THREADS,
        scalars={
            "length": length,
            "filled": min(filled, length),
            "positions": products[0].shape[1],
            "rows": len(slots),
            "blocks": blocks,
        },
    )
    return done
