"""The kernel `linear`: a norm, a product with a weight, GELU or a residual."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import runtime
from .runtime import Constant

LANES = 32
ROWS_PER_BLOCK = 8
STAGED_BYTES = 40 << 10
"""Of shared memory, for the rows that a product normalizes first."""

MAX_ROWS = 8
"""Of a batch; beyond it MLX's own products share a weight's way from memory better."""

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
      read_chunk(X_AT, v);
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

PLAIN_PARTS = {"NORM_PART": "", "X_AT": "x + b * IN + k"}
STAGED_AT = "reinterpret_cast<const T*>(staged) + b * IN + k"

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
    if not takes_weight(layer):
        return None
    inputs, constants, parts = stored(layer)
    inputs = {"x": x} | inputs
    constants |= {"T": x.dtype, "BATCH": batch, "IN": into}
    parts = PLAIN_PARTS | parts
    name = "linear_quantized" if isinstance(layer, nn.QuantizedLinear) else "linear"
    last = ""
    if norm is not None:
        inputs |= {"norm_weight": norm.weight, "norm_bias": norm.bias}
        parts |= {"NORM_PART": NORM_PART, "X_AT": STAGED_AT}
        name += "_norm"
    if gelu:
        last += GELU_PART
        name += "_gelu"
    if residual is not None:
        inputs["residual"] = residual
        last += RESIDUAL_PART
        name += "_residual"
    to = dtype or x.dtype
    out, per_warp = layer.weight.shape[0], 2 if batch > 2 else 1
    parts["LAST_PART"] = last + "out[at] = static_cast<TO>(y);"
    (y,) = runtime.run(
        name,
        filled(LINEAR_SOURCE, tuple(parts.items())),
        inputs,
        constants | {"TO": to, "OUT": out, "PER_WARP": per_warp, "ROWS_PER_BLOCK": ROWS_PER_BLOCK},
        {"out": ((batch, out), to)},
        blocks=-(-out // ROWS_PER_BLOCK),
        threads=LANES * ROWS_PER_BLOCK // per_warp,
    )
    return y


def takes_weight(layer: nn.Module) -> bool:
    """Whether a kernel takes the weight of `layer`."""
    if isinstance(layer, nn.QuantizedLinear):
        return layer.mode == "affine" and layer.bits in (4, 8)
    return True


def stored(
    layer: nn.Module,
) -> tuple[dict[str, mx.array], dict[str, Constant], dict[str, str]]:
    """A product's inputs, constants and parts that have to do with how its weight is stored."""
    if isinstance(layer, nn.QuantizedLinear):
        inputs: dict[str, Any] = {"weight": layer.weight}
        inputs |= {"scales": layer.scales, "biases": layer.biases}
        return inputs, {"BITS": layer.bits, "GROUP": layer.group_size}, QUANTIZED_PARTS
    return {"weight": layer.weight}, {}, FLOAT_PARTS


@cache
def filled(source: str, parts: Sequence[tuple[str, str]]) -> str:
    """`source` with each word that `parts` name replaced."""
    for name, part in parts:
        source = part.join(re.split(rf"\b{name}\b", source))
    return source
