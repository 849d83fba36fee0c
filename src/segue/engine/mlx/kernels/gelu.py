"""The kernel `gelu`, exact, for many columns; it goes with `attend`.

MLX has it as five operations, or as a fused one that CUDA's compiler takes seconds for.
"""

from __future__ import annotations

import mlx.core as mx

from . import runtime

THREADS = 256

# Each operation is rounded as MLX rounds it.
GELU_SOURCE = """
long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
if (at >= chunks) return;
float values[8];
read_chunk(x + at * 8, values);
Chunk<T> out;
for (int i = 0; i < 8; i++) {
  float scaled = rounded<T>(values[i] / rounded<T>(1.41421356f));
  float share = rounded<T>(1.0f + rounded<T>(erff(scaled)));
  out.value[i] = static_cast<T>(rounded<T>(values[i] * share) / 2.0f);
}
reinterpret_cast<Chunk<T>*>(y)[at] = out;
"""


def gelu(x: mx.array) -> mx.array:
    """GELU of as many values as a multiple of eight."""
    chunks = x.size // 8
    (y,) = runtime.run(
        "gelu",
        GELU_SOURCE,
        {"x": x},
        {"T": x.dtype},
        {"y": (x.shape, x.dtype)},
        blocks=-(-chunks // THREADS),
        threads=THREADS,
        scalars={"chunks": chunks},
    )
    return y
