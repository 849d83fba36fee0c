"""The encoder of T5 (https://arxiv.org/abs/1910.10683), always in float32.

Its activations overflow float16, and it runs once per text.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.config import T5Config
from ..buckets import relative_buckets
from .activations import gelu_approx
from .lookups import Lookup


class SelfAttention(nn.Module):
    """Attention with a bias per head and distance, and no scale."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.heads = config.num_heads
        self.q = nn.Linear(config.dim, inner, bias=False)
        self.k = nn.Linear(config.dim, inner, bias=False)
        self.v = nn.Linear(config.dim, inner, bias=False)
        self.o = nn.Linear(inner, config.dim, bias=False)

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        B, L, _ = x.shape
        q, k, v = (
            y.reshape(B, L, self.heads, -1).transpose(0, 2, 1, 3)
            for y in (self.q(x), self.k(x), self.v(x))
        )
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0, mask=bias)
        return self.o(y.transpose(0, 2, 1, 3).reshape(B, L, -1))


class FeedForward(nn.Module):
    """One ReLU, or a gated GELU as in T5 1.1."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.gated = config.gated
        if config.gated:
            self.wi_0 = nn.Linear(config.dim, config.ffn_dim, bias=False)
            self.wi_1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        else:
            self.wi = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.wo = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        if self.gated:
            return self.wo(gelu_approx(self.wi_0(x)) * self.wi_1(x))
        return self.wo(mx.maximum(self.wi(x), 0))


class Block(nn.Module):
    """Pre-norm: self-attention, feed-forward."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.attention = SelfAttention(config)
        self.feed_forward_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class T5Encoder(nn.Module):
    """Token ids `(B, L)` to hidden states `(B, L, dim)`.

    Args:
        config: its shape.
        lookup: finds rows of embeddings; None for MLX's own way.
    """

    def __init__(self, config: T5Config, lookup: Lookup | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.relative_attention_bias = nn.Embedding(config.num_buckets, config.num_heads)
        self.blocks = [Block(config) for _ in range(config.num_layers)]
        self.final_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self._config, self._lookup = config, lookup or Lookup()

    def __call__(self, ids: mx.array) -> mx.array:
        buckets = relative_buckets(
            ids.shape[1], self._config.num_buckets, self._config.max_distance
        )
        bias = self._lookup(self.relative_attention_bias, mx.array(buckets))
        bias = bias.transpose(2, 0, 1)[None]
        x = self._lookup(self.embedding, ids)
        for block in self.blocks:
            x = block(x, bias)
        return self.final_norm(x)
