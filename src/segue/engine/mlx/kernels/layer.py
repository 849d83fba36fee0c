"""The kernel `layer`: a whole decoder layer in one launch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import mlx.core as mx
import mlx.nn as nn

from ..lm import Layer, filled_up
from . import runtime
from .attention import HEAD_DIMS
from .packing import Packed, Parts, pack
from .product import LANES, MAX_ROWS, filled, stored, takes_weight
from .runtime import Constant

THREADS = 512
MAX_SHARED_BYTES = 96 << 10
"""What a block is to have at most; GPUs since Ampere allow it (consumers' 99 KB, an H100 227)."""

MAX_PREFETCHED_BYTES = 12 << 20
"""A larger weight is not prefetched into the L2 cache: it would push out what is read before it."""

TEXT = ("folded", "shift", "values")
"""What `Layer.folded` gives, as the source calls it."""

MAX_TEXT = LANES
"""Tokens of a text: in softmax each has a lane.  What a step reads for a text, and the memory that
the folded weights take, grow with them.  With heads of 64 values, 32 tokens are 0.75 of the bytes
of the float16 weights that are not read, but 2 to 8 MB a layer more than 4-bit ones, up to 3 µs;
and in memory 0.6 GB for the large shape."""

FUNCTIONS = "\n".join(
    (resources.files(__package__) / f"layer_{part}.cuh").read_text("utf-8")
    for part in ("grid", "products", "attention")
)

# What a product reads is prefetched while the one before it, or attention, runs, and not sooner: it
# would be in the way of what that reads.
#
# In `scratch`: what is rounded as the model's type (qkv, hidden states after attention and after
# cross-attention, the feed-forward's), and what is not (attention's parts, scores of a text).
SOURCE = """
PACKED_PART
extern __shared__ float4 shared[];
T* staged = reinterpret_cast<T*>(shared);
float* room = reinterpret_cast<float*>(staged + STAGED);
T *qkv = reinterpret_cast<T*>(scratch), *attended = qkv + ROWS * 3 * DIM;
T *crossed = attended + ROWS * DIM, *hidden = crossed + ROWS * DIM;
float *found = reinterpret_cast<float*>(scratch + EXACT_AT), *scores = found + UNITS * FOUND;
unsigned* counter = const_cast<unsigned*>(barrier);

using QKV = Weight<QKV_BITS, QKV_GROUP>;
using Out = Weight<OUT_BITS, OUT_GROUP>;
using FC1 = Weight<FC1_BITS, FC1_GROUP>;
using FC2 = Weight<FC2_BITS, FC2_GROUP>;
QKV qkv_stored QKV_STORED;
Out out_stored OUT_STORED;
FC1 fc1_stored FC1_STORED;
FC2 fc2_stored FC2_STORED;
using QKVProduct = Product<QKV, 3 * DIM, DIM, ROWS>;
using OutProduct = Product<Out, DIM, DIM, ROWS>;
using FC1Product = Product<FC1, HIDDEN, DIM, ROWS>;
using FC2Product = Product<FC2, DIM, HIDDEN, ROWS>;

QKVProduct qkv_product(qkv_stored);
OutProduct::prefetch(out_stored);
normalize(x, norm1_weight, norm1_bias, staged, DIM, room);
qkv_product.run(staged, DIM, room, [&](int b, int row, float y) {
  qkv[b * 3 * DIM + row] = static_cast<T>(y);
});
grid_barrier(counter);

FC1Product::prefetch(fc1_stored);
attend(qkv, cache, position[0], length, found, room);
OutProduct out_product(out_stored);
TEXT_WEIGHTS_PART
grid_barrier(counter);

FC2Product::prefetch(fc2_stored);
combine_splits(found, staged, WIDE);
TEXT_STAGE_PART
__syncthreads();
out_product.run(staged, WIDE, room, [&](int b, int row, float y) {
  int at = b * DIM + row;
  attended[at] = static_cast<T>(static_cast<float>(x[at]) + rounded<T>(y));
});
TEXT_PART
FC1Product fc1_product(fc1_stored);
grid_barrier(counter);

prefetch_l2(
  reinterpret_cast<const char*>(next) + (long long)blockIdx.x * next_bytes, next_bytes);
normalize(crossed, norm2_weight, norm2_bias, staged, DIM, room);
fc1_product.run(staged, DIM, room, [&](int b, int row, float y) {
  y = rounded<T>(y);
  hidden[b * HIDDEN + row] = static_cast<T>(y * (1.0f + erff(y * 0.70710678f)) * 0.5f);
});
FC2Product fc2_product(fc2_stored);
grid_barrier(counter);

fc2_product.run(hidden, HIDDEN, room, [&](int b, int row, float y) {
  int at = b * DIM + row;
  out[at] = static_cast<T>(static_cast<float>(crossed[at]) + rounded<T>(y));
});
"""

WITHOUT_TEXT = {
    "TEXT_WEIGHTS_PART": "",
    "TEXT_STAGE_PART": "",
    "TEXT_PART": "crossed = attended;",
}

# The first rows have a text, the others keep what they are.
WITH_TEXT = {
    "TEXT_WEIGHTS_PART": """
using Text = Weight<0, 1>;
Product<Text, SCORES, 2 * DIM, TAKES> scores_product(Text{folded});
""",
    "TEXT_STAGE_PART": """
for (int i = threadIdx.x; i < TAKES * DIM; i += THREADS)
  staged[i / DIM * WIDE + DIM + i % DIM] = x[i];
""",
    "TEXT_PART": """
__syncthreads();
scores_product.run(staged, WIDE, room, [&](int b, int row, float y) {
  scores[b * SCORES + row] = y;
});
Product<Text, DIM, SCORES, TAKES> values_product(Text{values});
grid_barrier(counter);

attend_text(attended, scores, shift, staged, room);
values_product.run(staged, SCORES, room, [&](int b, int row, float y) {
  int at = b * DIM + row;
  crossed[at] = static_cast<T>(static_cast<float>(attended[at]) + rounded<T>(y));
  for (at += TAKES * DIM; at < ROWS * DIM; at += TAKES * DIM) crossed[at] = attended[at];
});
""",
}


@cache
def barrier_counter() -> mx.array:
    """The counter of grid barriers: one for all launches, which run one after another (`turns`).

    MLX keeps an array of eight bytes or less in the host's memory, where a barrier takes 300 µs.
    """
    counter = mx.zeros((64,), mx.uint32)
    mx.eval(counter)
    return counter


def layer_fits(layer: Layer, rows: int, dtype: mx.Dtype, tokens: int = 0) -> bool:
    """Whether there is a kernel for such a layer.

    Args:
        layer: of the model.
        rows: of the batch.
        dtype: the model's.
        tokens: of the text; 0 for none.
    """
    shape = _Shape.of(layer, rows, filled_up(tokens) * layer.self_attn.heads)
    return (
        rows <= MAX_ROWS
        and tokens <= MAX_TEXT
        and shape.head_dim in HEAD_DIMS
        and shape.hidden % 8 == 0
        and all(takes_weight(product) for product in _products(layer).values())
        and shape.shared_bytes(dtype) <= min(MAX_SHARED_BYTES, runtime.gpu().shared_bytes)
    )


def packed_layer(layer: Layer) -> Packed:
    """What a layer has, in one array, of which its own are parts from now on."""
    found: Packed | None = getattr(layer, "_packed", None)
    if found is not None:
        return found
    modules = _products(layer)
    modules |= {"norm1": layer.self_attn_layer_norm, "norm2": layer.final_layer_norm}
    names = ("weight", "scales", "biases", "bias")
    arrays = {
        (module, name): modules[module][name]
        for module in modules
        for name in names
        if modules[module].get(name) is not None
    }
    found = pack({f"{module}_{name}": array for (module, name), array in arrays.items()})
    runtime.evaluate(found.data)
    views = found.views()
    for module, name in arrays:
        modules[module][name] = views[f"{module}_{name}"]
    runtime.evaluate(views)
    layer._packed = found
    return found


def packed_text(layer: Layer, cross: tuple[mx.array, mx.array]) -> mx.array:
    """One text's keys and values, folded into a layer's weights, in one array `(n,)` of bytes."""
    return pack(dict(zip(TEXT, layer.folded(*cross), strict=True))).data


def tokens_of(text: mx.array, layer: Layer) -> int:
    """How many tokens a text from `packed_text` has, those that fill it up included."""
    norm = layer.final_layer_norm.weight
    return int(text.size // (3 * norm.nbytes + 4) // layer.self_attn.heads)


def layer_forward(
    x: mx.array,
    layer: Layer,
    cache: mx.array,
    position: mx.array,
    text: mx.array | None,
    takes: int,
    following: mx.array,
) -> mx.array:
    """Run a decoder layer; return hidden states `(B, dim)`.

    The cache is written in place, so nothing else may read it before the output is computed.

    Args:
        x: hidden states before it, `(B, dim)`.
        layer: one that `layer_fits` accepts and `packed_layer` has packed.
        cache: `(B, 2, H, L, D)`, contiguous; filled up to `position`, which is less than L.
        position: `(1,)` int32.
        text: from `packed_text`, or None.
        takes: the rows that have the text, the first ones.
        following: the weights that come after the layer, the first of which are prefetched.
    """
    whole = packed_layer(layer)
    scores = 0 if text is None else tokens_of(text, layer) * layer.self_attn.heads
    shape = _Shape.of(layer, len(x), scores)
    inputs = {"x": x, "cache": cache, "position": position, "barrier": barrier_counter()}
    inputs |= {"packed": whole.data, "next": following}
    lines = _pointers("packed", whole.parts)
    parts = dict(WITHOUT_TEXT)
    if text is not None:
        inputs["text"] = text
        lines += _pointers("text", _text_parts(x.dtype, scores, shape.dim))
        parts = dict(WITH_TEXT)
    rounded = shape.rows * (5 * shape.dim + shape.hidden) * x.dtype.size
    constants = shape.constants()
    constants |= {"T": x.dtype, "TAKES": takes, "EXACT_AT": rounded}
    constants |= {"BFLOAT16": x.dtype == mx.bfloat16, "TENSOR_CORES": runtime.gpu().tensor_cores}
    for name, product in _products(layer).items():
        arrays, numbers, _ = stored(product)
        constants |= {f"{name.upper()}_{key}": numbers.get(key, 0) for key in ("BITS", "GROUP")}
        parts[f"{name.upper()}_STORED"] = "{" + ", ".join(f"{name}_{key}" for key in arrays) + "}"
    exact = shape.rows * (shape.heads * shape.splits * (shape.head_dim + 2) + scores)
    y, _ = runtime.run(
        "layer",
        filled(SOURCE, (("PACKED_PART", "\n".join(lines)), *parts.items())),
        inputs,
        constants,
        {"out": (x.shape, x.dtype), "scratch": ((rounded + 4 * exact,), mx.uint8)},
        blocks=shape.blocks,
        threads=THREADS,
        functions=FUNCTIONS,
        scalars={
            "length": cache.shape[3],
            "next_bytes": min(following.nbytes, MAX_PREFETCHED_BYTES) // shape.blocks // 16 * 16,
        },
        shared_bytes=shape.shared_bytes(x.dtype),
        resident=1,
    )
    return y


def _text_parts(dtype: mx.Dtype, scores: int, dim: int) -> Parts:
    shapes = (dtype, (scores, 2 * dim)), (mx.float32, (scores,)), (dtype, (dim, scores))
    starts = 0, 2 * dim * scores * dtype.size, (2 * dim * dtype.size + 4) * scores
    return {name: (*each, at) for name, each, at in zip(TEXT, shapes, starts, strict=True)}


def _pointers(array: str, parts: Parts) -> list[str]:
    """What the source calls the parts of an array."""
    types = ((name, runtime.TYPES[dtype], at) for name, (dtype, _, at) in parts.items())
    return [
        f"const {kind}* {name} = reinterpret_cast<const {kind}*>({array} + {at});"
        for name, kind, at in types
    ]


def _products(layer: Layer) -> dict[str, nn.Module]:
    attention = layer.self_attn
    return {
        "qkv": attention.qkv_proj,
        "out": attention.out_proj,
        "fc1": layer.fc1,
        "fc2": layer.fc2,
    }


@dataclass(frozen=True)
class _Shape:
    """Of a layer, and of how it is shared out.

    Attributes:
        rows: of the batch.
        dim: of hidden states.
        hidden: of the feed-forward's.
        heads: of attention.
        scores: of a text, for all heads; 0 without one.
        blocks: one for each multiprocessor.
    """

    rows: int
    dim: int
    hidden: int
    heads: int
    scores: int
    blocks: int

    @classmethod
    def of(cls, layer: Layer, rows: int, scores: int) -> _Shape:
        """What a layer has."""
        dim, hidden = layer.fc2.weight.shape[0], layer.fc1.weight.shape[0]
        return cls(rows, dim, hidden, layer.self_attn.heads, scores, runtime.gpu().multiprocessors)

    @property
    def head_dim(self) -> int:
        """D."""
        return self.dim // self.heads

    @property
    def splits(self) -> int:
        """Parts of the positions that a head's attention is shared out in."""
        return max(1, self.blocks // (self.rows * self.heads))

    @property
    def width(self) -> int:
        """Input width of the output projection: with a text, hidden states are part of it."""
        return 2 * self.dim if self.scores else self.dim

    def constants(self) -> dict[str, Constant]:
        """Those of the kernel's source."""
        numbers: dict[str, Constant] = {"ROWS": self.rows, "DIM": self.dim, "HIDDEN": self.hidden}
        numbers |= {"HEADS": self.heads, "D": self.head_dim, "SPLITS": self.splits}
        numbers |= {"BLOCKS": self.blocks, "THREADS": THREADS, "WIDE": self.width}
        numbers["MAX_PREFETCHED"] = MAX_PREFETCHED_BYTES
        return numbers | {"SCORES": self.scores, "STAGED": self._staged}

    @property
    def _staged(self) -> int:
        """Inputs of products that are staged in shared memory."""
        return self.rows * max(self.width, self.scores)

    def shared_bytes(self, dtype: mx.Dtype) -> int:
        """Of shared memory for a block."""
        warps = THREADS // 32
        each = -(-max(3 * self.dim, self.hidden, self.scores) // self.blocks)
        room = max(each * self.rows * warps, warps * (2 + self.head_dim))
        return self._staged * dtype.size + 4 * room
