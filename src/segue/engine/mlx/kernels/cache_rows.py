"""The kernel `write_rows`: a prefill's keys and values into rows of a cache; it goes with `attend`.

MLX's own way writes in place only where nothing else refers to the cache, which a step under way
does; it copies all of it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from . import runtime

THREADS = 256

LEAST_ENTRIES = 4
"""MLX keeps an array of eight bytes or less in the host's memory, where every thread would read."""

WRITE_ROWS_SOURCE = """
constexpr int CHUNKS = D / 8;
long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
if (at < LEAST) done[at] = 1;
int d = at % CHUNKS, position = at / CHUNKS % length;
long long head = at / CHUNKS / length;
if (head >= ROWS * 2 * HEADS) return;
Chunk<T> value = {};
if (position < filled)
  value = reinterpret_cast<const Chunk<T>*>(from)[(head * filled + position) * CHUNKS + d];
head += ((long long)slots[head / (2 * HEADS)] - head / (2 * HEADS)) * 2 * HEADS;
reinterpret_cast<Chunk<T>*>(const_cast<T*>(cache))[(head * length + position) * CHUNKS + d] = value;
"""


def write_rows(cache: mx.array, kv: mx.array, slots: Sequence[int]) -> mx.array:
    """Write keys and values to rows of a cache, in place, with zeros behind them.

    What is submitted before, in the same stream, still reads what was there; what is submitted
    after the output is evaluated reads what is written.

    Args:
        cache: `(B, 2, H, L, D)`, contiguous, D a multiple of eight.
        kv: `(rows, 2, H, S, D)` of the same type; of more than L positions the first ones count.
        slots: the row of the cache for each of its rows, all different.

    Returns:
        Something to evaluate: nobody needs its value.
    """
    _, _, heads, length, dim = cache.shape
    rows, kv = len(kv), kv[:, :, :, :length]
    missing = max(0, LEAST_ENTRIES - rows)
    (done,) = runtime.run(
        "write_rows",
        WRITE_ROWS_SOURCE.replace("LEAST", str(LEAST_ENTRIES)),
        {"from": kv, "cache": cache, "slots": mx.array([*slots, *[0] * missing], mx.int32)},
        {"T": cache.dtype, "HEADS": heads, "D": dim, "ROWS": rows},
        {"done": ((LEAST_ENTRIES,), mx.int32)},
        blocks=-(-rows * 2 * heads * length * dim // 8 // THREADS),
        threads=THREADS,
        scalars={"length": length, "filled": kv.shape[3]},
    )
    return done
