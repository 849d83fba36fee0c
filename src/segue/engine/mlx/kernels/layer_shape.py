"""How the kernel `layer` shares out a decoder layer: rows at a time, warps, shared memory.

What the templates of `layer_products.cuh` choose at compile time is computed here once more, for a
launch has to name its shared memory; the source asserts that it is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn

from ..lm import Layer
from . import runtime
from .product import MAX_ROWS
from .runtime import Constant

THREADS = 512
WARPS = THREADS // 32

MOST_ROWS = 64
"""Of a batch that tensor cores multiply with: beyond it, MLX's products share a weight's way from
memory better."""

ROWS_AT_ONCE = 32
"""Rows that a product takes at a time at most; its sums take registers of each."""

FEW_ROWS = 8
"""Rows at a time whose sums leave registers for the weights of two products."""

MAX_SHARED_BYTES = 220 << 10
"""What a block is to have at most; an H100 allows 227 KB, consumers' GPUs since Ampere 99."""

MAX_SUMS = 32
"""Of a lane, in a product by tensor cores."""

PLACE_BYTES = 24
"""For each layer: where its weights, its text and its cache lie."""

MOST_LAYERS = 64
"""Of a launch."""

PADDING = 8
"""Values between rows of what is staged, so that lanes of a warp read from banks of their own."""


def products_of(layer: Layer) -> dict[str, nn.Module]:
    """A layer's products by the names that the source has for them."""
    attention = layer.self_attn
    return {
        "qkv": attention.qkv_proj,
        "out": attention.out_proj,
        "fc1": layer.fc1,
        "fc2": layer.fc2,
    }


def places(bits: int) -> list[int]:
    """Where each of eight values goes that weights of so many bits are multiplied with."""
    per_word = 32 // bits
    half = per_word // 2
    return [k // per_word * per_word + k % half * 2 + k % per_word // half for k in range(8)]


def placed(weight: mx.array, bits: int) -> mx.array:
    """A weight `(out, in)` whose columns are in the order of inputs that another one wants.

    Args:
        weight: which is not quantized.
        bits: of the other one; 0 where it wants none.
    """
    if not bits:
        return weight
    to = places(bits)
    order = mx.array([to.index(k) for k in range(8)])
    return weight.reshape(len(weight), -1, 8)[:, :, order].reshape(weight.shape)


@dataclass(frozen=True)
class Shape:
    """Of layers, and of how they are shared out.

    Attributes:
        rows: of the batch.
        dim: of hidden states.
        hidden: of the feed-forward's.
        heads: of attention.
        scores: of a text, for all heads; 0 without one.
        dtype: the model's.
        stored: of each product, the bits and the group of its weights, 0 and 0 for none.
        gpu: the one that they run on.
        logits: of all heads, if they are computed after the layers.
    """

    rows: int
    dim: int
    hidden: int
    heads: int
    scores: int
    dtype: mx.Dtype
    stored: tuple[tuple[str, int, int], ...]
    gpu: runtime.GPU
    logits: int = 0

    @classmethod
    def of(cls, layer: Layer, rows: int, scores: int, dtype: mx.Dtype) -> Shape:
        """What a layer has."""
        dim, hidden = layer.fc2.weight.shape[0], layer.fc1.weight.shape[0]
        stored = tuple(
            (name, product.bits, product.group_size)
            if isinstance(product, nn.QuantizedLinear)
            else (name, 0, 0)
            for name, product in products_of(layer).items()
        )
        return cls(rows, dim, hidden, layer.self_attn.heads, scores, dtype, stored, runtime.gpu())

    @property
    def blocks(self) -> int:
        """One for each multiprocessor."""
        return self.gpu.multiprocessors

    @property
    def head_dim(self) -> int:
        """D."""
        return self.dim // self.heads

    @property
    def splits(self) -> int:
        """Parts of the positions that a head's attention is shared out in.

        As many as there are blocks for; where heads are more than blocks, so many that few blocks
        wait for the last part, but no more than that is worth: each part is put together by all.
        """
        units = self.rows * self.heads
        if units <= self.blocks:
            return self.blocks // units
        rounds = units / self.blocks
        return min((1, 2, 3), key=lambda n: -(-units * n // self.blocks) / n / rounds + 0.05 * n)

    @property
    def by_tensor_cores(self) -> bool:
        """Whether tensor cores multiply with all of the weights."""
        inputs = {"qkv": self.dim, "out": self.dim, "fc1": self.dim, "fc2": self.hidden}
        return all(self._by_tensor_cores(g, inputs[name]) for name, _, g in self.stored)

    def _by_tensor_cores(self, group: int, into: int) -> bool:
        return self.gpu.tensor_cores and self.dtype.size == 2 and group % 64 == 0 and into % 64 == 0

    def takes_logits(self, logits: int, group: int) -> bool:
        """Whether so many logits may follow, from a weight of groups, 0 for none."""
        found = replace(self, logits=logits)
        return self._by_tensor_cores(group, self.dim) == self.by_tensor_cores and (
            found.rows_at_once == self.rows_at_once
        )

    def bits_of_inputs(self, name: str) -> int:
        """The bits of the weights that the order of a product's inputs is for; 0 if it has none."""
        bits, group = next((bits, group) for product, bits, group in self.stored if product == name)
        into = self.hidden if name == "fc2" else self.dim
        return bits if self._by_tensor_cores(group, into) else 0

    @property
    def stride(self) -> int:
        """From one row of what is staged to the next; with a text, hidden states are part of it."""
        return max(2 * self.dim if self.scores else self.dim, self.scores) + PADDING

    @property
    def rows_at_once(self) -> int:
        """Rows that a product takes at a time; 0 where there is not the shared memory for one."""
        most = ROWS_AT_ONCE if self.by_tensor_cores else MAX_ROWS
        available = min(MAX_SHARED_BYTES, self.gpu.shared_bytes)
        rounds = -(-self.rows // most)
        while rounds <= self.rows:
            rows = -(-self.rows // rounds)
            if self.shared_bytes(rows) <= available:
                return rows
            rounds += 1
        return 0

    def shared_bytes(self, rows: int) -> int:
        """Of shared memory for a block, for so many rows at a time."""
        products = rows * self.stride * self.dtype.size + 4 * self._room(rows)
        return self._places_bytes + max(products, self._attention_bytes(2))

    @property
    def key_places(self) -> int:
        """Keys and values of each thread that there is room for while attention runs."""
        available = min(MAX_SHARED_BYTES, self.gpu.shared_bytes)
        places = 4 if self.rows * self.heads <= self.blocks else 8
        while places > 2 and self._places_bytes + self._attention_bytes(places) > available:
            places -= 1
        return places

    @property
    def launched_bytes(self) -> int:
        """Of shared memory for a block, as it is launched."""
        attention = self._places_bytes + self._attention_bytes(self.key_places)
        return max(self.shared_bytes(self.rows_at_once), attention)

    @property
    def _places_bytes(self) -> int:
        return -(-MOST_LAYERS * PLACE_BYTES // 128) * 128

    def _attention_bytes(self, places: int) -> int:
        """What warps found, twice, and what is copied."""
        return 8 * WARPS * (4 + self.head_dim) + places * 2 * THREADS * 8 * self.dtype.size

    def _room(self, rows: int) -> int:
        """Floats for what warps found, of the largest product or of attention."""
        of = {"qkv": (3 * self.dim, self.dim), "out": (self.dim, self.dim)}
        of |= {"fc1": (self.hidden, self.dim), "fc2": (self.dim, self.hidden)}
        sizes = [(*of[name], group) for name, _, group in self.stored]
        if self.logits:
            sizes.append((self.logits, self.dim, 0))
        if self.scores:
            sizes += [(self.scores, 2 * self.dim, 0), (self.dim, self.scores, 0)]
        room = 2 * WARPS * (4 + self.head_dim)
        for out, into, group in sizes:
            each = -(-out // self.blocks)
            stride = (each + 11) // 16 * 16 + 4
            room = max(room, self._warps_of_row(each, into, group, rows) * rows * stride)
        return -(-room // 4) * 4

    def _warps_of_row(self, each: int, into: int, group: int, rows: int) -> int:
        """How many warps share a row of a weight of which a block has so many."""
        if not self._by_tensor_cores(group, into):
            return _divisor(-(-into // 256), WARPS)
        columns, eights = -(-rows // 8), -(-each // 8)
        high = 1 if eights in (1, 3) else 2
        tiles, beside = -(-eights // high), 1
        while beside < min(WARPS, tiles) and -(-tiles // beside) * columns * 2 * high > MAX_SUMS:
            beside *= 2
        return _divisor(into // 64, WARPS // beside)

    def constants(self) -> dict[str, Constant]:
        """Those of the kernel's source."""
        numbers: dict[str, Constant] = {"ROWS": self.rows, "DIM": self.dim, "HIDDEN": self.hidden}
        numbers |= {"HEADS": self.heads, "D": self.head_dim, "SPLITS": self.splits}
        numbers |= {"BLOCKS": self.blocks, "THREADS": THREADS, "SCORES": self.scores}
        numbers |= {"KEY_PLACES": self.key_places, "LOGITS": self.logits}
        numbers["PLACES_FLOATS"] = self._places_bytes // 4
        rows = self.rows_at_once
        numbers["FC1_EARLY"] = rows <= FEW_ROWS
        quantized = any(bits for _, bits, _ in self.stored)
        numbers["HELD_REGISTERS"] = 32 if quantized else 48
        return numbers | {"PASS": rows, "STRIDE": self.stride, "ROOM": self._room(rows)}


def _divisor(n: int, most: int) -> int:
    """The largest power of two that divides n and is at most `most`."""
    found = 1
    while found < most and n % (2 * found) == 0:
        found *= 2
    return found
