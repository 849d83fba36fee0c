"""Fused CUDA kernels for a decode step, each optional, each beside a portable way to the same.

At batch 1 a step's time is the host's, a few microseconds for everything that is launched, so each
of these does what takes several primitives.  `step` chooses: a kernel that is off, or that does not
take a case (its function returns None), leaves the case to MLX's own primitives.

Everything is computed in float32 and rounded to the model's type T where the portable way rounds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ...errors import RequestError

EMBED, LINEAR, ATTEND, SAMPLE = NAMES = ("embed", "linear", "attend", "sample")

FASTER: frozenset[str] = frozenset()
"""The kernels that run unasked where there is CUDA: those that were measured to be faster."""

VARIABLE = "SEGUE_MLX_KERNELS"
"""The environment variable that chooses kernels."""

HEAD_DIMS = (8, 16, 32, 64, 128, 256)
"""What `attend` takes."""

LANES = 32
ROWS_PER_BLOCK = 8
STAGED_BYTES = 40 << 10
"""Of shared memory, for the rows that a product normalizes first."""

MAX_ROWS = 8
"""Of a batch; beyond it MLX's own products share a weight's way from memory better."""


def wanted(names: str) -> frozenset[str]:
    """The kernels that a list such as `"linear,attend"` names; `"all"` and `"none"` are known.

    Raises:
        RequestError: there is no such kernel.
    """
    if names in ("all", "none"):
        return frozenset(NAMES) if names == "all" else frozenset()
    found = frozenset(name.strip() for name in names.split(","))
    if not found <= set(NAMES):
        raise RequestError(f"{VARIABLE}={names!r}; there are {', '.join(NAMES)}, all and none")
    return found


def available() -> bool:
    """Whether kernels can run here."""
    return mx.cuda.is_available() and mx.default_device().type == mx.DeviceType.gpu


def chosen(head_dim: int) -> frozenset[str]:
    """The kernels that run here: those that `VARIABLE` names, or else `FASTER`.

    Raises:
        RequestError: the variable names one that there is not.
    """
    names = os.environ.get(VARIABLE)
    on = FASTER if names is None else wanted(names)
    if not available():
        return frozenset()
    return on if head_dim in HEAD_DIMS else on - {ATTEND}


# A chunk is eight values: 16 bytes of float16, 4 of four-bit weights.
HEADER = """
#define LEAST __int_as_float(0xff800000)

template <typename T>
struct alignas(8 * sizeof(T)) Chunk {
  T value[8];
};

template <typename T>
__device__ __forceinline__ void read_chunk(const T* from, float* to) {
  Chunk<T> chunk = *reinterpret_cast<const Chunk<T>*>(from);
#pragma unroll
  for (int i = 0; i < 8; i++) to[i] = static_cast<float>(chunk.value[i]);
}

template <typename T>
__device__ __forceinline__ float rounded(float value) {
  return static_cast<float>(static_cast<T>(value));
}
"""

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
float place = rounded<T>(positions[(long long)column[0] * DIM + d]);
out[at] = static_cast<T>(rounded<T>(sum) + place);
"""


def embed(
    tokens: mx.array, table: nn.Module, positions: mx.array, column: mx.array, rows: int
) -> mx.array | None:
    """What `step.embedded` does."""
    if not isinstance(table, nn.Embedding):
        return None
    (takes, codebooks), dim = tokens.shape, table.weight.shape[1]
    kernel = _kernel("embed", ("tokens", "table", "positions", "column"), EMBED_SOURCE)
    (out,) = kernel(
        inputs=[tokens, table.weight, positions, column],
        template=[
            ("T", table.weight.dtype),
            ("ROWS", rows),
            ("DIM", dim),
            ("TAKES", takes),
            ("CODEBOOKS", codebooks),
            ("ENTRIES", table.weight.shape[0] // codebooks),
        ],
        grid=(-(-rows * dim // 256) * 256, 1, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[(rows, dim)],
        output_dtypes=[table.weight.dtype],
    )
    return out


# A warp has PER_WARP rows of the weight, and a lane every 32nd chunk of them; AHEAD chunks of each
# row are on their way from memory at a time, the first while x is normalized.  With a norm, every
# block normalizes all of x for itself: cheaper than a launch.
LINEAR_SOURCE = """
constexpr int AHEAD = 4;
constexpr bool WHOLE = IN % (256 * AHEAD) == 0;
int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
int row = blockIdx.x * ROWS_PER_BLOCK + warp * PER_WARP;
STORED_PART
Stored stored[AHEAD][PER_WARP];
auto fetch = [&](int from) {
#pragma unroll
  for (int n = 0; n < AHEAD; n++) {
    int k = from + n * 256;
    if (!WHOLE && k >= IN) continue;
#pragma unroll
    for (int r = 0; r < PER_WARP; r++) {
      long long start = (long long)min(row + r, OUT - 1) * IN + k;
      Stored& one = stored[n][r];
      FETCH_PART
    }
  }
};
int from = lane * 8;
fetch(from);
NORM_PART
float sums[PER_WARP][BATCH] = {};
while (from < IN) {
#pragma unroll
  for (int n = 0; n < AHEAD; n++) {
    int k = from + n * 256;
    if (!WHOLE && k >= IN) continue;
    float w[PER_WARP][8];
#pragma unroll
    for (int r = 0; r < PER_WARP; r++) {
      const Stored& one = stored[n][r];
      UNPACK_PART
    }
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      float v[8];
      read_chunk(X_FROM + b * IN + k, v);
#pragma unroll
      for (int r = 0; r < PER_WARP; r++) {
#pragma unroll
        for (int i = 0; i < 8; i++) sums[r][b] += v[i] * w[r][i];
      }
    }
  }
  from += 256 * AHEAD;
  if (from < IN) fetch(from);
}
#pragma unroll
for (int r = 0; r < PER_WARP; r++) {
#pragma unroll
  for (int b = 0; b < BATCH; b++) {
    float sum = sums[r][b];
    for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
    if (lane != 0 || row + r >= OUT) continue;
    float y = rounded<T>(sum);
    long long at = (long long)b * OUT + row + r;
    LAST_PART
  }
}
"""

NORM_PART = """
__shared__ Chunk<T> staged[BATCH * IN / 8];
for (int b = warp; b < BATCH; b += ROWS_PER_BLOCK / PER_WARP) {
  float v[8], total = 0, squares = 0;
  for (int k = lane * 8; k < IN; k += 256) {
    read_chunk(x + b * IN + k, v);
    for (int i = 0; i < 8; i++) total += v[i];
  }
  for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
  float mean = total / IN;
  for (int k = lane * 8; k < IN; k += 256) {
    read_chunk(x + b * IN + k, v);
    for (int i = 0; i < 8; i++) squares += (v[i] - mean) * (v[i] - mean);
  }
  for (int apart = 16; apart > 0; apart /= 2)
    squares += __shfl_xor_sync(0xffffffffu, squares, apart);
  float normalizer = rsqrtf(squares / IN + 1e-5f);
  for (int k = lane * 8; k < IN; k += 256) {
    float scale[8], shift[8];
    read_chunk(x + b * IN + k, v);
    read_chunk(norm_weight + k, scale);
    read_chunk(norm_bias + k, shift);
    Chunk<T> chunk;
    for (int i = 0; i < 8; i++)
      chunk.value[i] = static_cast<T>(rounded<T>((v[i] - mean) * normalizer) * scale[i] + shift[i]);
    staged[(b * IN + k) / 8] = chunk;
  }
}
__syncthreads();
"""

FLOAT_PARTS = {
    "STORED_PART": "using Stored = Chunk<T>;",
    "FETCH_PART": "one = *reinterpret_cast<const Chunk<T>*>(weight + start);",
    "UNPACK_PART": "for (int i = 0; i < 8; i++) w[r][i] = static_cast<float>(one.value[i]);",
}

# Affine: weight = scale * q + bias, the lowest bits of a word first.
QUANTIZED_PARTS = {
    "STORED_PART": "struct Stored { unsigned words[BITS / 4]; T scale, bias; };",
    "FETCH_PART": """
#pragma unroll
      for (int i = 0; i < BITS / 4; i++) one.words[i] = weight[start / (32 / BITS) + i];
      one.scale = scales[start / GROUP];
      one.bias = biases[start / GROUP];
""",
    "UNPACK_PART": """
      float scale = static_cast<float>(one.scale), bias = static_cast<float>(one.bias);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        unsigned q = one.words[i * BITS / 32] >> (i * BITS % 32) & ((1u << BITS) - 1);
        w[r][i] = scale * q + bias;
      }
""",
}

GELU_PART = "y = rounded<T>(y * (1.0f + erff(y * 0.70710678f)) * 0.5f);"
RESIDUAL_PART = "y = static_cast<float>(residual[at]) + y;"


def linear(
    x: mx.array,
    layer: nn.Module,
    norm: nn.Module | None = None,
    gelu: bool = False,
    residual: mx.array | None = None,
    dtype: mx.Dtype | None = None,
) -> mx.array | None:
    """What `step.linear` does."""
    batch, into = x.shape
    staged = batch * into * x.dtype.size if norm is not None else 0
    if batch > MAX_ROWS or into % 8 or staged > STAGED_BYTES:
        return None
    inputs: dict[str, Any] = {"x": x, "weight": layer.weight}
    template: list[tuple[str, Any]] = [("T", x.dtype), ("BATCH", batch), ("IN", into)]
    parts = FLOAT_PARTS | {"NORM_PART": "", "X_FROM": "x", "LAST_PART": ""}
    name = "linear"
    if isinstance(layer, nn.QuantizedLinear):
        if layer.mode != "affine" or layer.bits not in (4, 8):
            return None
        inputs |= {"scales": layer.scales, "biases": layer.biases}
        template += [("BITS", layer.bits), ("GROUP", layer.group_size)]
        parts |= QUANTIZED_PARTS
        name += "_quantized"
    if norm is not None:
        inputs |= {"norm_weight": norm.weight, "norm_bias": norm.bias}
        parts |= {"NORM_PART": NORM_PART, "X_FROM": "reinterpret_cast<const T*>(staged)"}
        name += "_norm"
    if gelu:
        parts["LAST_PART"] += GELU_PART
        name += "_gelu"
    if residual is not None:
        inputs["residual"] = residual
        parts["LAST_PART"] += RESIDUAL_PART
        name += "_residual"
    to = dtype or x.dtype
    out = layer.weight.shape[0]
    per_warp = 2 if batch > 2 else 1
    template += [("TO", to), ("OUT", out), ("PER_WARP", per_warp)]
    template.append(("ROWS_PER_BLOCK", ROWS_PER_BLOCK))
    parts["LAST_PART"] += "out[at] = static_cast<TO>(y);"
    kernel = _kernel(name, tuple(inputs), _filled(LINEAR_SOURCE, tuple(parts.items())))
    threads = LANES * ROWS_PER_BLOCK // per_warp
    (y,) = kernel(
        inputs=list(inputs.values()),
        template=template,
        grid=(-(-out // ROWS_PER_BLOCK) * threads, 1, 1),
        threadgroup=(threads, 1, 1),
        output_shapes=[(batch, out)],
        output_dtypes=[to],
    )
    return y


# One block has one head of one row.  Eight values of a head are a lane's, so D / 8 lanes share a
# key, and a warp has several keys at once; softmax runs along, and is put together at the end.  The
# newest key and value come from qkv, and are written to the cache, in place: what is read of it in
# a later step is written by then, since that step's input comes of this one's output.
ATTEND_SOURCE = """
constexpr int LANES = D / 8, KEYS = 32 / LANES, WARPS = 16;
int head = blockIdx.x % HEADS, b = blockIdx.x / HEADS;
int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key = lane / LANES, d = lane % LANES * 8;
int newest = position[0];
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
    """Attention of one query over what is in the cache, and over itself, which is put there.

    The cache is written in place, so nothing else may read it before the output is there.

    Args:
        qkv: `(B, 3 · H · D)`, D one of `HEAD_DIMS`.
        cache: `(B, 2, H, L, D)`, contiguous; filled up to `position`, which is less than L.
        position: `(1,)` int32.
        heads: H.

    Returns:
        `(B, H · D)`.
    """
    batch, _, _, length, dim = cache.shape
    kernel = _kernel("attend", ("qkv", "cache", "position"), ATTEND_SOURCE)
    (out,) = kernel(
        inputs=[qkv, cache, position],
        template=[("T", qkv.dtype), ("HEADS", heads), ("D", dim), ("LENGTH", length)],
        grid=(batch * heads * 512, 1, 1),
        threadgroup=(512, 1, 1),
        output_shapes=[(batch, heads * dim)],
        output_dtypes=[qkv.dtype],
    )
    return out


# One block has one codebook of one take.  The k-th largest logit is found bit by bit; of several
# that are equal to it, those with the highest numbers take part.
SAMPLE_SOURCE = """
constexpr int EACH = (V + 1023) / 1024;
int t = threadIdx.x;
int there = known[blockIdx.x];
if (there != -1) {
  if (t == 0) out[blockIdx.x] = there;
  return;
}
float logit[EACH];
unsigned rank[EACH];
bool in[EACH];
for (int n = 0; n < EACH; n++) {
  int i = n * 1024 + t;
  in[n] = i < V;
  rank[n] = 0;
  if (!in[n]) continue;
  logit[n] = logits[(long long)blockIdx.x * V + i];
  if (GUIDED) {
    float other = logits[((long long)TAKES * CODEBOOKS + blockIdx.x) * V + i];
    logit[n] = other + (logit[n] - other) * coef[0];
  }
  unsigned bits = __float_as_uint(logit[n] + 0.0f);
  rank[n] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
if (TOP < V) {
  unsigned bound = 0;
  for (int bit = 31; bit >= 0; bit--) {
    unsigned next = bound | 1u << bit;
    int count = 0;
    for (int n = 0; n < EACH; n++) count += __syncthreads_count(in[n] && rank[n] >= next);
    if (count >= TOP) bound = next;
  }
  int above = 0, equal = 0;
  for (int n = 0; n < EACH; n++) {
    above += __syncthreads_count(in[n] && rank[n] > bound);
    equal += __syncthreads_count(in[n] && rank[n] == bound);
  }
  int from = 0, room = TOP - above;
  if (equal > room) {
    int low = 0, high = V;
    while (high - low > 1) {
      int middle = (low + high) / 2, count = 0;
      for (int n = 0; n < EACH; n++)
        count += __syncthreads_count(in[n] && rank[n] == bound && n * 1024 + t >= middle);
      if (count >= room) low = middle; else high = middle;
    }
    from = low;
  }
  for (int n = 0; n < EACH; n++)
    in[n] = in[n] && (rank[n] > bound || (rank[n] == bound && n * 1024 + t >= from));
}
float best = LEAST;
int token = V;
for (int n = 0; n < EACH; n++) {
  int i = n * 1024 + t;
  if (!in[n]) continue;
  float score = logit[n] / temperature[0] + noise[(long long)blockIdx.x * V + i];
  if (score > best || token == V) { best = score; token = i; }
}
__shared__ float bests[32];
__shared__ int tokens[32];
for (int round = 0; round < 2; round++) {
  for (int apart = 16; apart > 0; apart /= 2) {
    float score = __shfl_xor_sync(0xffffffffu, best, apart);
    int other = __shfl_xor_sync(0xffffffffu, token, apart);
    if (other < V && (token == V || score > best || (score == best && other < token))) {
      best = score;
      token = other;
    }
  }
  if (round == 0) {
    if (t % 32 == 0) { bests[t / 32] = best; tokens[t / 32] = token; }
    __syncthreads();
    if (t >= 32) return;
    best = bests[t];
    token = tokens[t];
  }
}
if (t == 0) out[blockIdx.x] = token;
"""


def sample(
    logits: mx.array,
    noise: mx.array,
    known: mx.array,
    temperature: mx.array,
    coef: mx.array,
    top_k: int,
    guided: bool,
) -> mx.array:
    """Tokens `(N, K)` int32: `known` where they are, elsewhere drawn as `Sampler` says.

    Args:
        logits: `(N, K, V)` float32, or `(2N, K, V)` with the conditioned stream first.
        noise: `(N, K, V)` float32.
        known: `(N, K)` int32, -1 where a token is to be drawn.
        temperature: float32.
        coef: float32, see `Sampling`.
        top_k: how many take part; 0 or more than V: all.
        guided: whether there are two streams.
    """
    (takes, codebooks), entries = known.shape, logits.shape[-1]
    kernel = _kernel("sample", ("logits", "noise", "known", "temperature", "coef"), SAMPLE_SOURCE)
    (out,) = kernel(
        inputs=[logits, noise, known, temperature, coef],
        template=[
            ("TAKES", takes),
            ("CODEBOOKS", codebooks),
            ("V", entries),
            ("TOP", top_k if 0 < top_k < entries else entries),
            ("GUIDED", guided),
        ],
        grid=(takes * codebooks * 1024, 1, 1),
        threadgroup=(1024, 1, 1),
        output_shapes=[(takes, codebooks)],
        output_dtypes=[mx.int32],
    )
    return out


@cache
def _kernel(name: str, inputs: Sequence[str], source: str) -> Any:
    return mx.fast.cuda_kernel(
        name=f"segue_{name}",
        input_names=list(inputs),
        output_names=["out"],
        source=source,
        header=HEADER,
    )


@cache
def _filled(source: str, parts: Sequence[tuple[str, str]]) -> str:
    for name, part in parts:
        source = source.replace(name, part)
    return source
