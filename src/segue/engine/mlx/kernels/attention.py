"""The kernel `attend`: the cache's update and attention of one query."""

from __future__ import annotations

import mlx.core as mx

from . import runtime

HEAD_DIMS = (8, 16, 32, 64, 128, 256)
"""What `attend` takes."""

# One block has one head of one row.  Eight values of a head are a lane's, so D / 8 lanes share a
# key, and a warp has several keys at once; softmax runs along, and is put together at the end.  The
# newest key and value come from qkv, and are written to the cache, in place: what is read of it in
# a later step is written by then, since that step's input comes of this one's output.
ATTEND_SOURCE = """
constexpr int LANES = D / 8, KEYS = 32 / LANES, WARPS = 16;
int head = blockIdx.x % HEADS, b = blockIdx.x / HEADS;
int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key = lane / LANES, d = lane % LANES * 8;
int newest = position[OWN_POSITIONS ? b : 0];
const T* fresh = qkv + (long long)b * 3 * HEADS * D + head * D + d;
T* keys = const_cast<T*>(cache) + ((long long)b * 2 * HEADS + head) * LENGTH * D + d;
T* values = keys + (long long)HEADS * LENGTH * D;
float q[8], k[8], v[8], sum[8] = {}, best = LEAST, total = 0;
read_chunk(fresh, q);
for (int i = 0; i < 8; i++) q[i] *= rsqrtf((float)D);
for (int first = warp * KEYS; first <= newest; first += WARPS * KEYS) {
  int at = first + key;
  bool there = at <= newest;
  float score = 0;
  if (there) {
    const T* from = at == newest ? fresh + HEADS * D : keys + (long long)at * D;
    read_chunk(from, k);
    read_chunk(at == newest ? fresh + 2 * HEADS * D : values + (long long)at * D, v);
#pragma unroll
    for (int i = 0; i < 8; i++) score += q[i] * k[i];
  }
#pragma unroll
  for (int apart = LANES / 2; apart > 0; apart /= 2)
    score += __shfl_xor_sync(0xffffffffu, score, apart);
  if (there) {
    float most = fmaxf(best, score), kept = __expf(best - most), share = __expf(score - most);
    best = most;
    total = total * kept + share;
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = sum[i] * kept + share * v[i];
    if (at == newest) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        keys[(long long)at * D + i] = static_cast<T>(k[i]);
        values[(long long)at * D + i] = static_cast<T>(v[i]);
      }
    }
  }
}
__shared__ float bests[WARPS], totals[WARPS], sums[WARPS][D];
float most = best;
#pragma unroll
for (int apart = LANES; apart < 32; apart *= 2)
  most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
float kept = best == LEAST ? 0.0f : __expf(best - most);
total *= kept;
#pragma unroll
for (int apart = LANES; apart < 32; apart *= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
#pragma unroll
for (int i = 0; i < 8; i++) {
  sum[i] *= kept;
#pragma unroll
  for (int apart = LANES; apart < 32; apart *= 2)
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], apart);
  if (key == 0) sums[warp][d + i] = sum[i];
}
if (lane == 0) {
  bests[warp] = most;
  totals[warp] = total;
}
__syncthreads();
if (threadIdx.x < D) {
  float top = LEAST, whole = 0, y = 0;
  for (int w = 0; w < WARPS; w++) top = fmaxf(top, bests[w]);
  for (int w = 0; w < WARPS; w++) {
    float share = bests[w] == LEAST ? 0.0f : __expf(bests[w] - top);
    whole += share * totals[w];
    y += share * sums[w][threadIdx.x];
  }
  out[((long long)b * HEADS + head) * D + threadIdx.x] = static_cast<T>(y / whole);
}
"""


def attend(qkv: mx.array, cache: mx.array, position: mx.array, heads: int) -> mx.array:
    """Attention of one query over the cache and itself; its key and value are written to the cache.

    The cache is written in place, so nothing else may read it before the output is computed.

    Args:
        qkv: `(B, 3 · H · D)`, D one of `HEAD_DIMS`.
        cache: `(B, 2, H, L, D)`, contiguous; row b is filled up to its position, which is less
            than L.
        position: `(1,)` int32, or `(B,)` if each row has its own.
        heads: H.

    Returns:
        `(B, H · D)`.
    """
    batch, _, _, length, dim = cache.shape
    (out,) = runtime.run(
        "attend",
        ATTEND_SOURCE,
        {"qkv": qkv, "cache": cache, "position": position},
        {
            "T": qkv.dtype,
            "HEADS": heads,
            "D": dim,
            "LENGTH": length,
            "OWN_POSITIONS": position.size > 1,
        },
        {"out": ((batch, heads * dim), qkv.dtype)},
        blocks=batch * heads,
        threads=512,
    )
    return out
