"""The language model and its text encoder: MusicGen's decoder and T5's encoder, small.

Arithmetic and parameter names are those of `transformers`' `MusicgenForConditionalGeneration`, so
that export is a copy; written out here because a captured step must not ask the device anything.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, linear, relu, scaled_dot_product_attention


@dataclass(frozen=True)
class LMShape:
    """Sizes of the decoder and of the text encoder."""

    vocabulary: int
    dim: int = 256
    layers: int = 8
    heads: int = 4
    codebooks: int = 4
    entries: int = 2048
    text_dim: int = 128
    text_layers: int = 2
    text_heads: int = 4
    text_hidden: int = 256
    dropout: float = 0.1


def positions(steps: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (steps, dim): cosines, then sines."""
    half = dim // 2
    rate = torch.exp(torch.arange(half, device=device).float() * -(math.log(10000) / (half - 1)))
    phase = torch.arange(steps, device=device).float()[:, None] * rate
    return torch.cat([phase.cos(), phase.sin()], 1)


class Attention(nn.Module):
    """Multi-head attention without biases; the names are the checkpoint's."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, dim) to (B, heads, T, dim / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, *parts: nn.Linear) -> list[Tensor]:
        """One product with several projections' weights, split into heads."""
        weight = torch.cat([part.weight for part in parts])
        return [self.split(y) for y in linear(x, weight).chunk(len(parts), -1)]

    def join(self, x: Tensor) -> Tensor:
        """(B, heads, T, dim / heads) to (B, T, dim), projected."""
        return self.out_proj(x.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, attention to the text, feed-forward; each with a norm before it."""

    def __init__(self, shape: LMShape):
        super().__init__()
        dim = shape.dim
        self.rate = shape.dropout
        self.self_attn = Attention(dim, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = Attention(dim, shape.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim, bias=False)
        self.fc2 = nn.Linear(4 * dim, dim, bias=False)
        self.final_layer_norm = nn.LayerNorm(dim)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, self.training)

    def forward(
        self, x: Tensor, text: Tensor, mask: Tensor, cache: Tensor | None = None, start: int = 0
    ) -> Tensor:
        """States (B, T, dim), text (B, L, dim), mask (B, 1, 1, L) true where the text has a word.

        With a cache (2, B, heads, steps, dim / heads), they continue it at step `start`.
        """
        attn = self.self_attn
        q, k, v = attn.project(self.self_attn_layer_norm(x), attn.q_proj, attn.k_proj, attn.v_proj)
        if cache is not None:
            end = start + x.shape[1]
            cache[0, :, :, start:end], cache[1, :, :, start:end] = k, v
            k, v = cache[0, :, :, :end], cache[1, :, :, :end]
        heard = scaled_dot_product_attention(q, k, v, is_causal=x.shape[1] > 1)
        x = x + self._drop(attn.join(heard))

        attn = self.encoder_attn
        (q,) = attn.project(self.encoder_attn_layer_norm(x), attn.q_proj)
        k, v = attn.project(text, attn.k_proj, attn.v_proj)
        x = x + self._drop(attn.join(scaled_dot_product_attention(q, k, v, attn_mask=mask)))

        hidden = gelu(self.fc1(self.final_layer_norm(x)))
        return x + self._drop(self.fc2(hidden))


class Decoder(nn.Module):
    """Embeddings of the codebooks, summed; layers; a last norm."""

    def __init__(self, shape: LMShape):
        super().__init__()
        self.embed_tokens = nn.ModuleList(
            nn.Embedding(shape.entries + 1, shape.dim) for _ in range(shape.codebooks)
        )
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.layer_norm = nn.LayerNorm(shape.dim)


class TextNorm(nn.Module):
    """T5's norm: root mean square, a weight, no bias."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same."""
        return self.weight * x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)


class TextAttention(nn.Module):
    """T5's self-attention: no scaling, a learned bias for each distance."""

    BUCKETS, FARTHEST = 32, 128

    def __init__(self, shape: LMShape, first: bool):
        super().__init__()
        self.heads = shape.text_heads
        for name in "qkvo":
            setattr(self, name, nn.Linear(shape.text_dim, shape.text_dim, bias=False))
        if first:
            self.relative_attention_bias = nn.Embedding(self.BUCKETS, self.heads)

    def bias(self, length: int) -> Tensor:
        """The bias (1, heads, length, length) of the first block, which all blocks share."""
        at = torch.arange(length, device=self.relative_attention_bias.weight.device)
        distance = at[None, :] - at[:, None]
        half, exact = self.BUCKETS // 2, self.BUCKETS // 4
        far = distance.abs().clamp_min(1).float()
        grown = torch.log(far / exact) / math.log(self.FARTHEST / exact) * (half - exact)
        far_bucket = (exact + grown.long()).clamp_max(half - 1)
        bucket = torch.where(distance.abs() < exact, distance.abs(), far_bucket)
        bucket = bucket + half * (distance > 0)
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """States (B, L, dim), bias (B, heads, L, L) with the padding at minus infinity."""
        q, k, v = (
            getattr(self, name)(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in "qkv"
        )
        weights = (q @ k.transpose(2, 3) + bias).float().softmax(-1).to(v.dtype)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class TextBlock(nn.Module):
    """Attention and feed-forward (ReLU), each behind a norm; names as T5 has them."""

    def __init__(self, shape: LMShape, first: bool):
        super().__init__()
        dim = shape.text_dim
        attention, feed = nn.Module(), nn.Module()
        attention.SelfAttention = TextAttention(shape, first)
        attention.layer_norm = TextNorm(dim)
        feed.DenseReluDense = nn.Module()
        feed.DenseReluDense.wi = nn.Linear(dim, shape.text_hidden, bias=False)
        feed.DenseReluDense.wo = nn.Linear(shape.text_hidden, dim, bias=False)
        feed.layer_norm = TextNorm(dim)
        self.layer = nn.ModuleList([attention, feed])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, L, dim) to the same."""
        attention, feed = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias)
        dense = feed.DenseReluDense
        return x + dense.wo(relu(dense.wi(feed.layer_norm(x))))


class TextEncoder(nn.Module):
    """T5's encoder."""

    def __init__(self, shape: LMShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.text_dim)
        self.block = nn.ModuleList(TextBlock(shape, i == 0) for i in range(shape.text_layers))
        self.final_layer_norm = TextNorm(shape.text_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L), 0 is padding, to (B, L, text_dim)."""
        x = self.embed_tokens(tokens)
        bias = self.block[0].layer[0].SelfAttention.bias(tokens.shape[1])
        bias = (
            bias
            + torch.zeros_like(tokens, dtype=bias.dtype).masked_fill(tokens == 0, -1e4)[
                :, None, None
            ]
        )
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class LanguageModel(nn.Module):
    """Everything but the codec: text encoder, projection, decoder, heads."""

    def __init__(self, shape: LMShape):
        super().__init__()
        self.shape = shape
        self.text = TextEncoder(shape)
        self.enc_to_dec_proj = nn.Linear(shape.text_dim, shape.dim)
        self.decoder = Decoder(shape)
        self.lm_heads = nn.ModuleList(
            nn.Linear(shape.dim, shape.entries, bias=False) for _ in range(shape.codebooks)
        )
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # Positions have an amplitude of 1: the embeddings must not drown in them.
                scale = 0.5 if "embed_tokens" in name else 0.02
                if name.endswith(("out_proj.weight", "fc2.weight")):
                    scale /= math.sqrt(3 * shape.layers)
                nn.init.normal_(parameter, std=scale)

    def conditioning(self, tokens: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Text tokens (B, L) to conditioning (B, L, dim) and its mask (B, 1, 1, L).

        Where `keep` (B,) is false the conditioning is all zeros, which adds nothing.
        """
        text = self.enc_to_dec_proj(self.text(tokens))
        mask = tokens != 0
        text = text * mask[..., None]
        if keep is not None:
            text = text * keep[:, None, None]
        return text, mask[:, None, None]

    def embed(self, columns: Tensor) -> Tensor:
        """Columns of the pattern (B, K, S) to the sum of their embeddings (B, S, dim)."""
        parts = [
            table.weight.index_select(0, columns[:, k].flatten()).view(*columns[:, k].shape, -1)
            for k, table in enumerate(self.decoder.embed_tokens)
        ]
        return torch.stack(parts).sum(0)

    def hidden(
        self, columns: Tensor, text: Tensor, mask: Tensor,
        caches: list[Tensor] | None = None, start: int = 0,
    ) -> Tensor:  # fmt: skip
        """Columns (B, K, S) from step `start` on to hidden states (B, S, dim)."""
        return self.states(columns, text, mask, caches, start)[0]

    def states(
        self, columns: Tensor, text: Tensor, mask: Tensor,
        caches: list[Tensor] | None = None, start: int = 0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As `hidden`; also the states behind three quarters of the layers."""
        steps = columns.shape[2]
        place = positions(start + steps, self.shape.dim, columns.device)[start:]
        x = self.embed(columns) + place
        middle = x
        for number, layer in enumerate(self.decoder.layers):
            x = layer(x, text, mask, caches[number] if caches else None, start)
            if number + 1 == self.shape.layers * 3 // 4:
                middle = x
        return self.decoder.layer_norm(x), middle

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, dim) to logits (B, S, K, entries)."""
        weight = torch.cat([head.weight for head in self.lm_heads])
        return linear(hidden, weight).unflatten(-1, (self.shape.codebooks, -1))
