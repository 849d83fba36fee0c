"""A prompt for rows of a batch: run in as few launches as can be, beside others' steps.

On CUDA a launch costs the host some twenty microseconds, more than most of them cost the device,
and while a request joins, nobody else's steps are submitted.  The same model as `lm` runs for many
columns; but nothing comes before them, keys and values stay in the product that they come from
until `kernels.write_rows` puts them where they belong, a residual is added by the product before
it, and GELU is a kernel.  Prompts are filled up to a few lengths, for each of which attention is
planned once.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from . import kernels
from .lm import LM, CrossKV, Layer, Lookup

MULTIPLE = 64
"""Columns that a prompt is filled up to a multiple of: what follows changes nothing before it."""


def filled_up(prompt: np.ndarray, token: int, most: int) -> np.ndarray:
    """A prompt `(rows, S, K)` with columns of `token` behind it, `most` columns at most in all."""
    columns = min(-(-prompt.shape[1] // MULTIPLE) * MULTIPLE, most)
    missing = columns - prompt.shape[1]
    return np.pad(prompt, [(0, 0), (0, missing), (0, 0)], constant_values=token)


def prompt_forward(
    lm: LM,
    tokens: mx.array,
    last: int,
    cross: CrossKV | None,
    prefix: mx.array | None,
    lookup: Lookup,
) -> tuple[mx.array, list[mx.array]]:
    """Run a prompt from the first position on.

    Args:
        lm: the model.
        tokens: `(B, S, K)`.
        last: the position whose hidden states are wanted.
        cross: see `LM`.
        prefix: see `LM`.
        lookup: how rows of the embeddings are found.

    Returns:
        The hidden states `(B, 1, dim)` after `last`, and of each layer its product
        `(B, positions, 3 * dim)`, queries, keys and values.
    """
    x = lookup(lm.embed_tokens, tokens + lm.offsets).sum(axis=2)
    if prefix is not None:
        x = mx.concatenate([prefix, x], axis=1)
    x = x + lm.positions[: x.shape[1]].astype(x.dtype)
    products = []
    for n, layer in enumerate(lm.layers):
        x, product = _layer_forward(layer, x, cross[n] if cross else None)
        products.append(product)
    return lm.layer_norm(x[:, last : last + 1]), products


def _layer_forward(
    layer: Layer, x: mx.array, cross: tuple[mx.array, mx.array] | None
) -> tuple[mx.array, mx.array]:
    attention = layer.self_attn
    product = attention.qkv_proj(layer.self_attn_layer_norm(x))
    B, S, dim = x.shape
    q, k, v = product.reshape(B, S, 3, attention.heads, -1).transpose(2, 0, 3, 1, 4)
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=attention.scale, mask="causal")
    x = _added(attention.out_proj, y.transpose(0, 2, 1, 3).reshape(B, S, dim), x)
    if cross is not None:
        x = x + layer.encoder_attn(layer.encoder_attn_layer_norm(x), *cross)
    return _added(layer.fc2, kernels.gelu(layer.fc1(layer.final_layer_norm(x))), x), product


def _added(layer: nn.Module, y: mx.array, x: mx.array) -> mx.array:
    """`x` and what `layer` makes of `y`."""
    if isinstance(layer, nn.QuantizedLinear) or "bias" in layer:
        added: mx.array = x + layer(y)
        return added
    return mx.addmm(x, y, layer.weight.T)
