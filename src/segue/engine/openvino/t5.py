"""The encoder of T5 (https://arxiv.org/abs/1910.10683) as a graph, always in float32."""

from __future__ import annotations

import numpy as np

from ...checkpoints.config import T5Config
from ...checkpoints.tensors import Tensors
from ..base import check_finite
from ..buckets import relative_buckets
from . import graph
from .graph import Output
from .runtime import compiled, ops, ov, run
from .weights import finite


class T5Encoder:
    """Token ids `(L,)` to hidden states `(1, L, dim)`.

    The host looks up embeddings and the bias of every distance.
    """

    def __init__(self, config: T5Config, tensors: Tensors, threads: int | None) -> None:
        self._config = config
        self._embedding = tensors["shared.weight"].read()
        check_finite(self._embedding, "weights of shared", fixed=True)
        bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        self._bias = finite(tensors, bias)
        self._model = compiled(_encoder(config, tensors), threads)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        buckets = relative_buckets(len(ids), self._config.num_buckets, self._config.max_distance)
        bias = self._bias[buckets].transpose(2, 0, 1)[None]
        hidden = self._embedding[ids].astype(np.float32)[None]
        return run(self._model, hidden, bias)[0]


def _encoder(config: T5Config, tensors: Tensors) -> ov.Model:
    """Inputs: embeddings `(1, L, dim)`, the bias `(1, heads, L, L)`.  Output: `(1, L, dim)`."""
    heads, head_dim = config.num_heads, config.head_dim

    def weight(name: str) -> Output:
        return graph.constant(finite(tensors, f"{name}.weight"))

    def linear(x: Output, name: str) -> Output:
        return ops.matmul(x, weight(name), False, True)

    def norm(x: Output, name: str) -> Output:
        mean = ops.reduce_mean(ops.multiply(x, x), graph.integers(-1), True)
        scale = ops.sqrt(ops.add(mean, graph.constant(np.float32(config.norm_eps))))
        return ops.multiply(ops.divide(x, scale), weight(name))

    def feed_forward(x: Output, name: str) -> Output:
        if config.gated:
            gate = ops.gelu(linear(x, f"{name}.wi_0"), "tanh")
            return linear(ops.multiply(gate, linear(x, f"{name}.wi_1")), f"{name}.wo")
        return linear(ops.relu(linear(x, f"{name}.wi")), f"{name}.wo")

    embedded = graph.parameter("embedded", (1, -1, config.dim))
    bias = graph.parameter("bias", (1, heads, -1, -1))
    x = embedded
    for n in range(config.num_layers):
        block = f"encoder.block.{n}.layer."
        y = norm(x, f"{block}0.layer_norm")
        q, k, v = (
            graph.split_heads(linear(y, f"{block}0.SelfAttention.{letter}"), heads, head_dim)
            for letter in "qkv"
        )
        one = graph.constant(np.float32(1))  # T5 does not scale
        y = graph.join_heads(ops.scaled_dot_product_attention(q, k, v, bias, one), heads * head_dim)
        x = ops.add(x, linear(y, f"{block}0.SelfAttention.o"))
        y = norm(x, f"{block}1.layer_norm")
        x = ops.add(x, feed_forward(y, f"{block}1.DenseReluDense"))
    return graph.model([norm(x, "encoder.final_layer_norm")], [embedded, bias])
