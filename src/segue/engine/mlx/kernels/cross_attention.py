"""The kernel `cross`: cross-attention over a text that is folded into the weights."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from . import runtime
from .product import (
    FLOAT_PARTS,
    LANES,
    LINEAR_SOURCE,
    MAX_ROWS,
    PLAIN_PARTS,
    RESIDUAL_PART,
    STAGED_AT,
    STAGED_BYTES,
    blocks,
    filled,
    per_warp,
    stored,
    takes_weight,
    threads,
)
from .runtime import Constant

MAX_TEXT = LANES
"""Tokens of a text that `cross` takes: in softmax each has a lane.  What a step reads for a text,
and the memory that the folded weights take, grow with them.  With heads of 64 values, 32 tokens are
0.75 of the bytes of the float16 weights that are not read, but 2 to 8 MB a layer more than 4-bit
ones, up to 3 µs, where two launches are 14; and in memory 0.6 GB for the large shape."""

# Cross-attention, folded (see `lm.Layer.folded`): the scores before the norm are linear in what
# self-attention's output product takes, so both are one launch; what is left of the norm, and
# softmax, come before the product with the folded values, in the next.  Blocks from WEIGHT_BLOCKS
# on have the scores.
CROSS_SCORES_SOURCE = """
if (blockIdx.x < WEIGHT_BLOCKS) {
PRODUCT_SOURCE
} else {
SCORES_SOURCE
}
"""

SCORES_PARTS = PLAIN_PARTS | {
    "X_AT": "k < IN / 2 ? x + b * (IN / 2) + k : residual + (b - 1) * (IN / 2) + k",
    "BLOCK_AT": "(blockIdx.x - WEIGHT_BLOCKS)",
    "ROUNDED_PART": "sum",
    "LAST_PART": "scores[at] = y;",
}
SCORES_NAMES = {"weight": "folded", "IN": "FOLDED_IN", "OUT": "SCORES", "BATCH": "TAKES"}


def cross_scores(
    x: mx.array, layer: nn.Module, residual: mx.array, folded: mx.array, takes: int
) -> tuple[mx.array, mx.array]:
    """`layer` of `x` plus `residual`, and the scores of that, before they are normalized.

    Args:
        x: `(B, dim)`, B at most `MAX_ROWS`.
        layer: what `takes_weight` says yes to.
        residual: `(B, dim)`.
        folded: `(S, 2 · dim)`, for `x` and for `residual`.
        takes: the rows that have a text, the first ones.

    Returns:
        `(B, dim)`, and `(takes, S)` float32.
    """
    (batch, into), (scores, both) = x.shape, folded.shape
    (batch, into), (scores, both) = x.shape, folded.shape
    inputs, constants, parts = stored(layer)
    parts = PLAIN_PARTS | parts | {"LAST_PART": RESIDUAL_PART + "out[at] = static_cast<T>(y);"}
    product = filled(LINEAR_SOURCE, tuple(parts.items()))
    beside = filled(LINEAR_SOURCE, tuple((SCORES_PARTS | FLOAT_PARTS).items()))
    beside = filled(beside, tuple(SCORES_NAMES.items()))
    quantized = "_quantized" if isinstance(layer, nn.QuantizedLinear) else ""
    out = layer.weight.shape[0]
    constants |= {"T": x.dtype, "BATCH": batch, "TAKES": takes, "IN": into, "OUT": out}
    constants |= {"FOLDED_IN": both, "SCORES": scores, "WEIGHT_BLOCKS": blocks(out)}
    y, found = runtime.run(
        f"cross_scores{quantized}",
        filled(CROSS_SCORES_SOURCE, (("PRODUCT_SOURCE", product), ("SCORES_SOURCE", beside))),
        {"x": x} | inputs | {"residual": residual, "folded": folded},
        constants | per_warp(batch),
        {"out": ((batch, out), x.dtype), "scores": ((takes, scores), mx.float32)},
        blocks=blocks(out) + blocks(scores),
        threads=threads(batch),
    )
    return y, found


# Every block has the softmax of all heads for itself.  WIDTH lanes, at least as many as the text
# has tokens, have a head of a row; what is staged is filled with zeros up to IN.
SOFTMAX_PART = """
constexpr int WARPS = ROWS_PER_BLOCK / PER_WARP, LENGTH = SCORES / HEADS;
__shared__ Chunk<T> staged[BATCH * IN / 8];
__shared__ float normalizers[BATCH];
for (int b = warp; b < BATCH; b += WARPS) {
  NORMALIZER_PART
  if (lane == 0) normalizers[b] = normalizer;
}
T* shares = reinterpret_cast<T*>(staged);
for (int i = threadIdx.x; i < BATCH * 8; i += 32 * WARPS) {
  int s = SCORES + i % 8;
  if (s < IN) shares[i / 8 * IN + s] = static_cast<T>(0.0f);
}
__syncthreads();
for (int first = warp * (32 / WIDTH); first < BATCH * HEADS; first += WARPS * (32 / WIDTH)) {
  int one = first + lane / WIDTH, b = one / HEADS, s = one % HEADS * LENGTH + lane % WIDTH;
  bool there = one < BATCH * HEADS && lane % WIDTH < LENGTH;
  float score = there ? scores[b * SCORES + s] * normalizers[b] + shift[s] : LEAST, best = score;
#pragma unroll
  for (int apart = WIDTH / 2; apart > 0; apart /= 2)
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, apart));
  float share = there ? __expf(score - best) : 0.0f, total = share;
#pragma unroll
  for (int apart = WIDTH / 2; apart > 0; apart /= 2)
    total += __shfl_xor_sync(0xffffffffu, total, apart);
  if (there) shares[b * IN + s] = static_cast<T>(share / total);
}
__syncthreads();
"""

CROSS_VALUES_PARTS = (
    PLAIN_PARTS
    | FLOAT_PARTS
    | {
        "NORM_PART": SOFTMAX_PART,
        "DIM": "OUT",
        "X_AT": STAGED_AT,
        "LAST_PART": """
    out[at] = static_cast<T>(static_cast<float>(x[at]) + y);
    for (long long other = at + BATCH * OUT; other < ROWS * OUT; other += BATCH * OUT)
      out[other] = x[other];
""",
    }
)


def cross_values(
    x: mx.array, scores: mx.array, shift: mx.array, weight: mx.array, heads: int
) -> mx.array:
    """Hidden states after cross-attention, the norm's last part and softmax included.

    Args:
        x: `(B, dim)`; rows without scores stay what they are.
        scores: `(takes, S)`, from `cross_scores`.
        shift: `(S,)` float32, what the norm's bias adds to scores.
        weight: `(dim, S and more)`, of softmax's output.
        heads: H; S is H times the text's length, at most `MAX_TEXT`.

    Returns:
        `(B, dim)`.
    """
    (rows, dim), (takes, count), into = x.shape, scores.shape, weight.shape[1]
    constants: dict[str, Constant] = {"T": x.dtype, "ROWS": rows, "BATCH": takes, "IN": into}
    constants |= {"OUT": dim, "SCORES": count, "HEADS": heads}
    constants["WIDTH"] = 1 << (count // heads - 1).bit_length()
    (y,) = runtime.run(
        "cross_values",
        filled(LINEAR_SOURCE, tuple(CROSS_VALUES_PARTS.items())),
        {"x": x, "scores": scores, "shift": shift, "weight": weight},
        constants | per_warp(takes),
        {"out": ((rows, dim), x.dtype)},
        blocks=blocks(dim),
        threads=threads(takes),
    )
    return y


def folds(layer: nn.Module, rows: int, heads: int, length: int, dtype: mx.Dtype) -> bool:
    """Whether `cross_scores` and `cross_values` take a text.

    Args:
        layer: self-attention's output product.
        rows: of the batch, those without a text included.
        heads: of the text's keys.
        length: of the text.
        dtype: the model's.
    """
    into = -(-heads * length // 8) * 8
    fits = rows <= MAX_ROWS and rows * into * dtype.size <= STAGED_BYTES
    return fits and length <= MAX_TEXT and layer.weight.shape[0] % 8 == 0 and takes_weight(layer)
