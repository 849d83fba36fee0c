"""The language model of MusicGen: a decoder-only transformer over codes.

Little is left to a step: Q, K and V are one product, so are the heads of all codebooks;
cross-attention's keys and values are projected once per request, and without text there is no
cross-attention at all (its projections have no bias, so over zeros it adds nothing).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.config import LMConfig
from .. import chroma
from . import cache as kv_cache
from .activations import gelu
from .cache import Cache
from .products import Linear, dequantized

CrossKV = list[tuple[mx.array, mx.array]]
"""For each layer, keys and values `(B, H, L, D)` of the conditioning."""


@dataclass(frozen=True)
class Prefix:
    """What comes before the sequence in a melody model: its melody, then its text.

    Attributes:
        given: `(1, L, dim)`, of the conditioned stream.
        nothing: `(1, L, dim)`, of the unconditioned one.
    """

    given: mx.array
    nothing: mx.array

    @property
    def length(self) -> int:
        """Positions that it takes."""
        return int(self.given.shape[1])

    def of_batch(self, takes: int, guided: bool) -> mx.array:
        """The rows `(B, L, dim)` of so many takes: conditioned, then unconditioned."""
        rows = mx.repeat(self.given, takes, axis=0)
        return mx.concatenate([rows, mx.repeat(self.nothing, takes, axis=0)]) if guided else rows


MAX_TEXT_TOKENS = 512
"""Of T5, whose relative positions know no more."""

Lookup = Callable[[nn.Module, mx.array], mx.array]
"""Rows `(..., dim)` of an embedding by their numbers."""

TEXT_MULTIPLE = 8
"""Tokens that a text is filled up to a multiple of before it is folded into the weights."""


def embedded(table: nn.Module, rows: mx.array) -> mx.array:
    """Rows of an embedding, found by MLX."""
    found: mx.array = table(rows)
    return found


def filled_up(tokens: int) -> int:
    """How many tokens a folded text has."""
    return -(-tokens // TEXT_MULTIPLE) * TEXT_MULTIPLE


def position_table(length: int, dim: int) -> mx.array:
    """Sinusoidal positions `(length, dim)`, cosines first.

    The denominator is `dim / 2 - 1`, as in AudioCraft's `create_sin_embedding`.
    """
    half = dim // 2
    frequency = mx.exp(mx.arange(half) * (-math.log(10_000) / (half - 1)))
    phase = mx.arange(length)[:, None] * frequency[None, :]
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)


class SelfAttention(nn.Module):
    """Attention over the columns so far."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.scale = config.head_dim**-0.5
        self.qkv_proj = Linear(config.dim, 3 * config.dim, bias=False)
        self.out_proj = Linear(config.dim, config.dim, bias=False)

    def __call__(
        self, x: mx.array, kv: mx.array, position: int, mask: mx.array
    ) -> tuple[mx.array, mx.array]:
        B, S, dim = x.shape
        qkv = self.qkv_proj(x).reshape(B, S, 3, self.heads, -1).transpose(0, 2, 3, 1, 4)
        kv = kv_cache.written(kv, qkv[:, 1:], position)
        y = mx.fast.scaled_dot_product_attention(
            qkv[:, 0], kv[:, 0], kv[:, 1], scale=self.scale, mask=mask
        )
        return self.out_proj(y.transpose(0, 2, 1, 3).reshape(B, S, dim)), kv


class CrossAttention(nn.Module):
    """Attention over the conditioning."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.scale = config.head_dim**-0.5
        self.q_proj = Linear(config.dim, config.dim, bias=False)
        self.k_proj = Linear(config.dim, config.dim, bias=False)
        self.v_proj = Linear(config.dim, config.dim, bias=False)
        self.out_proj = Linear(config.dim, config.dim, bias=False)

    def keys_and_values(self, conditioning: mx.array) -> tuple[mx.array, mx.array]:
        """Project `conditioning` `(B, L, dim)` to keys and values `(B, H, L, D)`."""
        return self._split(self.k_proj(conditioning)), self._split(self.v_proj(conditioning))

    def _split(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

    def __call__(self, x: mx.array, k: mx.array, v: mx.array) -> mx.array:
        q = self._split(self.q_proj(x))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out_proj(y.transpose(0, 2, 1, 3).reshape(x.shape))


class Layer(nn.Module):
    """Pre-norm: self-attention, cross-attention where there is text, feed-forward."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.self_attn = SelfAttention(config)
        if config.melody is None:
            self.encoder_attn_layer_norm = nn.LayerNorm(config.dim)
            self.encoder_attn = CrossAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = Linear(config.dim, config.ffn_dim, bias=False)
        self.fc2 = Linear(config.ffn_dim, config.dim, bias=False)

    def __call__(
        self,
        x: mx.array,
        kv: mx.array,
        position: int,
        mask: mx.array,
        cross: tuple[mx.array, mx.array] | None,
    ) -> tuple[mx.array, mx.array]:
        y, kv = self.self_attn(self.self_attn_layer_norm(x), kv, position, mask)
        x = x + y
        if cross is not None:
            x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), *cross)
        return x + self.fc2(gelu(self.fc1(self.final_layer_norm(x)))), kv

    def folded(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Cross-attention over one text as two products, softmax between them.

        Hidden states `x` after self-attention are `y · Wᵀ + r`: its output product, and what was
        there before.  A norm is `(x − mean) / deviation · weight + bias`, so scores of the norm of
        `x`, over keys that are multiplied into the query's weights, are `a · (y, r) / deviation +
        b`: `weight` and the mean's subtraction are in `a`, `bias` in `b`.  What softmax makes of
        them, times values that are multiplied into the output's weights, is added to `x`.

        Args:
            k: keys `(1, H, L, D)` of the text.
            v: its values.

        Returns:
            The scores' weights a `(H · L, 2 · dim)`, first those of y; b `(H · L,)` float32; the
            values' weights `(dim, H · L)`.  L is filled up (see `filled_up`) with tokens whose
            scores are -inf, so that there are few lengths to compile kernels for.  Computed in
            float32; a and the values' weights are rounded to the model's type.
        """
        norm, attention = self.encoder_attn_layer_norm, self.encoder_attn
        missing = filled_up(k.shape[2]) - k.shape[2]
        keys, values = (
            mx.pad(a.squeeze(0).astype(mx.float32), [(0, 0), (0, missing), (0, 0)]) for a in (k, v)
        )
        H, L, D = keys.shape
        scores = (keys @ _dense(attention.q_proj).reshape(H, D, -1)).reshape(H * L, -1)
        scores = scores * attention.scale
        there = mx.arange(H * L) % L < L - missing
        bias = mx.where(there, scores @ norm.bias.astype(mx.float32), -mx.inf)
        scores = scores * norm.weight.astype(mx.float32)
        scores = scores - scores.mean(axis=1, keepdims=True)
        scores = mx.concatenate([scores @ _dense(self.self_attn.out_proj), scores], axis=1)
        out = _dense(attention.out_proj).reshape(-1, H, D).transpose(1, 0, 2)
        out = (out @ values.swapaxes(1, 2)).transpose(1, 0, 2).reshape(-1, H * L)
        return scores.astype(k.dtype), bias, out.astype(k.dtype)


def _dense(layer: nn.Module) -> mx.array:
    """A product's weight in float32, also if it is quantized."""
    weight = dequantized(layer) if isinstance(layer, nn.QuantizedLinear) else layer.weight
    exact: mx.array = weight.astype(mx.float32)
    return exact


class LM(nn.Module):
    """Codes in, logits over the next codes out.

    Attributes:
        embed_tokens: the K embeddings in one table, codebook k from row `k * (V + 1)`.
        lm_heads: the K heads in one product.
    """

    def __init__(self, config: LMConfig, text_dim: int) -> None:
        super().__init__()
        K, V = config.num_codebooks, config.cardinality
        self.embed_tokens = nn.Embedding(K * (V + 1), config.dim)
        self.layers = [Layer(config) for _ in range(config.num_layers)]
        self.layer_norm = nn.LayerNorm(config.dim)
        self.lm_heads = Linear(config.dim, K * V, bias=False)
        self.enc_to_dec_proj = Linear(text_dim, config.dim)
        longest = config.window_frames + K
        if config.melody is not None:
            self.audio_enc_to_dec_proj = Linear(config.melody.bins, config.dim)
            longest += config.melody.frames + MAX_TEXT_TOKENS
        self._config = config
        self._offsets = mx.arange(K) * (V + 1)
        self._positions = position_table(kv_cache.capacity_for(longest), config.dim)

    def __call__(
        self,
        tokens: mx.array,
        position: int,
        cache: Cache,
        cross: CrossKV | None = None,
        prefix: mx.array | None = None,
        lookup: Lookup = embedded,
    ) -> tuple[mx.array, Cache]:
        """Run S columns that start at `position`.

        Args:
            tokens: `(B, S, K)`.
            position: how many columns are in the cache already.
            cache: written at `position` and after; what lies beyond is masked.
            cross: from `project`, or None for no text.
            prefix: `(B, L, dim)`, what comes before the columns, at `position` and after.
            lookup: how rows of the embeddings are found.

        Returns:
            The last hidden states `(B, L + S, dim)`, which `logits` takes, and the new cache.
        """
        x = lookup(self.embed_tokens, tokens + self._offsets).sum(axis=2)
        if prefix is not None:
            x = mx.concatenate([prefix, x], axis=1)
        at = mx.arange(position, position + x.shape[1])
        mask = mx.arange(cache[0].shape[3])[None, :] <= at[:, None]
        x = x + self._positions[position : position + x.shape[1]].astype(x.dtype)
        new: Cache = []
        for n, layer in enumerate(self.layers):
            x, kv = layer(x, cache[n], position, mask, cross[n] if cross else None)
            new.append(kv)
        return self.layer_norm(x), new

    @property
    def config(self) -> LMConfig:
        """Its shape."""
        return self._config

    @property
    def offsets(self) -> mx.array:
        """The row `(K,)` of `embed_tokens` where each codebook begins."""
        return self._offsets

    @property
    def positions(self) -> mx.array:
        """See `position_table`."""
        return self._positions

    @property
    def dtype(self) -> mx.Dtype:
        """What the model computes in."""
        return self.layer_norm.weight.dtype

    def empty_cache(self, batch: int, length: int) -> Cache:
        """A cache with room for `length` positions of `batch` rows."""
        c = self._config
        return kv_cache.empty(c.num_layers, batch, c.num_heads, length, c.head_dim, self.dtype)

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits `(B, S, K, V)` float32 of hidden states `(B, S, dim)`."""
        K, V = self._config.num_codebooks, self._config.cardinality
        return self.lm_heads(hidden).reshape(*hidden.shape[:2], K, V).astype(mx.float32)

    def project(self, encoded: mx.array) -> CrossKV:
        """Every layer's keys and values of a text encoder's output `(B, L, text_dim)`."""
        conditioning = self.enc_to_dec_proj(encoded)
        return [layer.encoder_attn.keys_and_values(conditioning) for layer in self.layers]

    def prefix(self, melody: mx.array | None, encoded: mx.array | None) -> Prefix:
        """What comes before the sequence in a melody model.

        Args:
            melody: `(F, bins)`, from `chroma.features`; None for no melody.
            encoded: a text encoder's output `(1, L, text_dim)`; None for no text.
        """
        melody_config = self._config.melody
        assert melody_config is not None  # noqa: S101 - asked for of melody models alone
        nothing = mx.array(chroma.silence(melody_config))
        # In place of no text there is one zero vector, in AudioCraft the mask of an empty text's.
        text = mx.zeros((1, 1, self._config.dim), self.dtype)
        if encoded is not None:
            text = self.enc_to_dec_proj(encoded)

        def behind(melody: mx.array, text: mx.array) -> mx.array:
            projected = self.audio_enc_to_dec_proj(melody.astype(self.dtype))
            return mx.concatenate([projected[None], text], axis=1)

        given = behind(nothing if melody is None else melody, text)
        return Prefix(given, behind(nothing, mx.zeros_like(text)))
