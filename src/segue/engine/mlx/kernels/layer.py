"""The kernel `layer`: decoder layers, all that are alike, in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

import mlx.core as mx
import mlx.nn as nn

from ..lm import LM, Layer, filled_up
from . import runtime
from .attention import HEAD_DIMS
from .layer_shape import MOST_ROWS, THREADS, Shape, placed, products_of
from .packing import Packed, Parts, pack
from .product import LANES, MAX_ROWS, filled, stored, takes_weight

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
    for part in ("grid", "weights", "products", "attention")
)

SOURCE = (resources.files(__package__) / "layer_body.cuh").read_text("utf-8")

WITHOUT_TEXT = {
    "TEXT_PRODUCTS_PART": "",
    "TEXT_BEGIN_PART": "",
    "TEXT_STAGE_PART": "",
    "TEXT_SCORES_PART": "",
    "TEXT_PART": "crossed = attended;",
}

# The first rows have a text, the others keep what they are.
WITH_TEXT = {
    "TEXT_PRODUCTS_PART": """
using Text = Weight<0, 1>;
constexpr int TEXT_PASS = PASS < TAKES ? PASS : TAKES;
Product<Text, SCORES, 2 * DIM, TEXT_PASS> scores_product;
""",
    "TEXT_BEGIN_PART": "scores_product.begin(Text{folded});",
    "TEXT_STAGE_PART": """
int with_text = min(streams, TAKES - first);
for (int i = threadIdx.x; i < with_text * DIM; i += THREADS)
  staged[i / DIM * STRIDE + DIM + OutProduct::place(i % DIM)] = input[first * DIM + i];
""",
    "TEXT_SCORES_PART": """
__syncthreads();
if (with_text > 0)
  scores_product.run(
    staged, STRIDE, with_text, first + PASS < TAKES, room, [&](int b, int row, float y) {
      scores[(first + b) * SCORES + row] = y;
    });
""",
    "TEXT_PART": """
Product<Text, DIM, SCORES, TEXT_PASS> values_product;
grid_barrier(counter, [&] { values_product.begin(Text{values}); });

for (int first = 0; first < TAKES; first += PASS) {
  int streams = min(PASS, TAKES - first);
  if (first > 0) __syncthreads();
  attend_text(
    attended + first * DIM, scores + first * SCORES, shift, streams, staged, STRIDE, room);
  values_product.run(
    staged, STRIDE, streams, first + PASS < TAKES, room, [&](int b, int row, float y) {
      int at = (first + b) * DIM + row;
      crossed[at] = static_cast<T>(static_cast<float>(attended[at]) + rounded<T>(y));
      for (at += TAKES * DIM; at < ROWS * DIM; at += TAKES * DIM) crossed[at] = attended[at];
    });
}
""",
}


LOGITS = """
{
PACKED_PART
using Logits = Weight<LOGITS_BITS, LOGITS_GROUP>;
using LogitsProduct = Product<Logits, LOGITS, DIM, PASS>;
LogitsProduct logits_product;
grid_barrier(counter, [&] { logits_product.begin(Logits LOGITS_STORED); });
for (int first = 0; first < ROWS; first += PASS) {
  int streams = min(PASS, ROWS - first);
  if (first > 0) __syncthreads();
  normalize<LogitsProduct, PASS>(
    out + first * DIM, norm3_weight, norm3_bias, streams, staged, STRIDE, room);
  logits_product.run(
    staged, STRIDE, streams, first + PASS < ROWS, room, [&](int b, int row, float y) {
      logits[(first + b) * LOGITS + row] = rounded<T>(y);
    });
}
}
"""


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
    shape = Shape.of(layer, rows, filled_up(tokens) * layer.self_attn.heads, dtype)
    return (
        tokens <= MAX_TEXT
        and shape.head_dim in HEAD_DIMS
        and shape.hidden % 8 == 0
        and all(takes_weight(product) for product in products_of(layer).values())
        and rows <= (MOST_ROWS if shape.by_tensor_cores else MAX_ROWS)
        and shape.rows_at_once > 0
    )


def heads_fit(lm: LM, rows: int) -> bool:
    """Whether the kernel takes the heads of a model whose layers it takes; see `layer_fits`."""
    product, layer = lm.lm_heads, lm.layers[0]
    shape = Shape.of(layer, rows, 0, lm.dtype)
    group = product.group_size if isinstance(product, nn.QuantizedLinear) else 0
    return takes_weight(product) and shape.takes_logits(product.weight.shape[0], group)


def packed_layer(layer: Layer) -> Packed:
    """What a layer has, in one array, of which its own are parts from now on.

    Quantized weights have their scales and biases once more, as pairs, in the order in which the
    kernel reads them.
    """
    norms = {"norm1": layer.self_attn_layer_norm, "norm2": layer.final_layer_norm}
    return _packed(layer, products_of(layer) | norms)


def packed_heads(lm: LM) -> Packed:
    """The last norm and the heads, likewise."""
    return _packed(lm.lm_heads, {"logits": lm.lm_heads, "norm3": lm.layer_norm})


def _packed(of: nn.Module, modules: dict[str, nn.Module]) -> Packed:
    found: Packed | None = getattr(of, "_packed", None)
    if found is not None:
        return found
    names = ("weight", "scales", "biases", "bias")
    arrays = {
        (module, name): modules[module][name]
        for module in modules
        for name in names
        if modules[module].get(name) is not None
    }
    marks = {
        f"{name}_marks": mx.stack(
            [array for array in (module.scales, module.biases) if array is not None], -1
        )
        for name, module in modules.items()
        if isinstance(module, nn.QuantizedLinear)
    }
    found = pack({f"{module}_{name}": array for (module, name), array in arrays.items()} | marks)
    runtime.evaluate(found.data)
    views = found.views()
    for module, name in arrays:
        modules[module][name] = views[f"{module}_{name}"]
    runtime.evaluate([views[f"{module}_{name}"] for module, name in arrays])
    of._packed = found
    return found


def packed_text(layer: Layer, cross: tuple[mx.array, mx.array]) -> mx.array:
    """One text's keys and values, folded into a layer's weights, in one array `(n,)` of bytes."""
    scores, shift, values = layer.folded(*cross)
    shape = Shape.of(layer, 1, len(scores), scores.dtype)
    scores = placed(scores, shape.bits_of_inputs("out"))
    return pack(dict(zip(TEXT, (scores, shift, values), strict=True))).data


def tokens_of(text: mx.array, layer: Layer) -> int:
    """How many tokens a text from `packed_text` has, those that fill it up included."""
    norm = layer.final_layer_norm.weight
    return int(text.size // (3 * norm.nbytes + 4) // layer.self_attn.heads)


def alike(layers: Sequence[Layer]) -> bool:
    """Whether layers that `packed_layer` has packed are alike, so that one launch runs them all."""
    first, *others = (packed_layer(layer).parts for layer in layers)
    return all(parts == first for parts in others)


def layers_forward(
    x: mx.array,
    layers: Sequence[Layer],
    caches: Sequence[mx.array],
    position: mx.array,
    texts: Sequence[mx.array] | None,
    takes: int,
    following: mx.array,
    heads: LM | None = None,
    alike: mx.array | None = None,
) -> mx.array:
    """Run decoder layers one after the other; return hidden states `(B, dim)`.

    With heads, return logits `(B, K · V)` in float32, rounded to the model's type.

    The caches are written in place, so nothing else may read them before the output is computed.

    Args:
        x: hidden states before the first, `(B, dim)`.
        layers: some that `layer_fits` accepts, that `packed_layer` has packed, and that are alike.
        caches: of each layer, `(B, 2, H, L, D)`, contiguous; row b is filled up to its position,
            which is less than L.
        position: `(1,)` int32, or `(B,)` if each row has its own.
        texts: of each layer, from `packed_text`, or None.
        takes: the rows that have the text, the first ones.
        following: the weights that come after the last layer, the first of which are prefetched.
        heads: of the model, if the layers are its last ones, and `heads_fit` accepts them.
        alike: `(n,)` int32, how many of the first positions are the same in the caches of all
            takes, and again of all rows behind them; None for none.
    """
    packed, first = [packed_layer(layer) for layer in layers], layers[0]
    scores = 0 if texts is None else tokens_of(texts[0], first) * first.self_attn.heads
    shape = Shape.of(first, len(x), scores, x.dtype)
    inputs = {"x": x, "position": position, "barrier": barrier_counter(), "next": following}
    inputs |= {f"packed_{n}": each.data for n, each in enumerate(packed)}
    inputs |= {f"cache_{n}": cache for n, cache in enumerate(caches)}
    lines = _pointers("packed", packed[0].parts)
    parts = dict(WITHOUT_TEXT)
    if texts is not None:
        inputs |= {f"text_{n}": text for n, text in enumerate(texts)}
        lines += _pointers("text", _text_parts(x.dtype, scores, shape.dim))
        parts = dict(WITH_TEXT)
    places = "\n".join(
        f"places[{n}] = {{packed_{n}, {'nullptr' if texts is None else f'text_{n}'}, "
        f"const_cast<T*>(cache_{n})}};"
        for n in range(len(layers))
    )
    outputs = {"out": (x.shape, x.dtype)}
    parts["LOGITS_PART"], parts["ALIKE_PART"] = "", "0"
    # Where a row's head has blocks of its own, its keys are prefetched, and there are few of them.
    if alike is not None and shape.rows * shape.heads > shape.blocks:
        inputs["alike"] = alike
        parts["ALIKE_PART"] = "alike[0]"
    if heads is not None:
        last = packed_heads(heads)
        inputs["packed_last"] = last.data
        count = heads.lm_heads.weight.shape[0]
        outputs["logits"] = (len(x), count), mx.float32
        parts["LOGITS_PART"] = filled(
            LOGITS, (("PACKED_PART", "\n".join(_pointers("packed_last", last.parts))),)
        )
        shape = replace(shape, logits=count)
    rounded = shape.rows * (6 * shape.dim + shape.hidden) * x.dtype.size
    constants = shape.constants() | {"LAYERS": len(layers), "OWN_POSITIONS": position.size > 1}
    constants |= {"T": x.dtype, "TAKES": takes, "EXACT_AT": rounded}
    constants |= {"BFLOAT16": x.dtype == mx.bfloat16, "TENSOR_CORES": runtime.gpu().tensor_cores}
    constants |= {"MAX_PREFETCHED": MAX_PREFETCHED_BYTES}
    products = products_of(first) | ({} if heads is None else {"logits": heads.lm_heads})
    for name, product in products.items():
        arrays, numbers, _ = stored(product)
        constants |= {f"{name.upper()}_{key}": numbers.get(key, 0) for key in ("BITS", "GROUP")}
        kept = ("weight", "marks") if "scales" in arrays else ("weight",)
        parts[f"{name.upper()}_STORED"] = "{" + ", ".join(f"{name}_{key}" for key in kept) + "}"
    exact = shape.rows * (shape.heads * shape.splits * (shape.head_dim + 4) + scores)

    def prefetched(array: mx.array) -> int:
        return min(array.nbytes, MAX_PREFETCHED_BYTES) // shape.blocks // 16 * 16

    found = runtime.run(
        "layer",
        filled(
            SOURCE,
            (("PLACES_PART", places), ("PACKED_PART", "\n".join(lines)), *parts.items()),
        ),
        inputs,
        constants,
        outputs | {"scratch": ((rounded + 4 * exact,), mx.uint8)},
        blocks=shape.blocks,
        threads=THREADS,
        functions=FUNCTIONS,
        scalars={
            "length": caches[0].shape[3],
            "layer_bytes": prefetched(packed[0].data),
            "next_bytes": prefetched(following),
        },
        shared_bytes=shape.launched_bytes,
        resident=1,
    )
    return found[0 if heads is None else 1]


def _text_parts(dtype: mx.Dtype, scores: int, dim: int) -> Parts:
    shapes = (dtype, (scores, 2 * dim)), (mx.float32, (scores,)), (dtype, (dim, scores))
    starts = 0, 2 * dim * scores * dtype.size, (2 * dim * dtype.size + 4) * scores
    return {name: (*each, at) for name, each, at in zip(TEXT, shapes, starts, strict=True)}


def _pointers(array: str, parts: Parts) -> list[str]:
    """What the source calls the parts of an array."""
    found = []
    for name, (dtype, _, at) in parts.items():
        kind = "Marks" if name.endswith("_marks") else runtime.TYPES[dtype]
        found.append(f"const {kind}* {name} = reinterpret_cast<const {kind}*>({array} + {at});")
    return found
