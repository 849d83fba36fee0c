"""A plain MLX loop, of the kind that segue began with.

The prompt is processed step by step like everything else, each step is synchronized, keys and
values are appended to a growing cache, and cross-attention projects its conditioning at every step.
"""

from __future__ import annotations

import math
import time
from importlib.metadata import version

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from . import shapes


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(dim, dim, bias=False))

    def __call__(
        self, x: mx.array, source: mx.array, cache: list[mx.array] | None = None
    ) -> mx.array:
        B, _, dim = x.shape
        q, k, v = (
            y.reshape(B, -1, self.heads, dim // self.heads).transpose(0, 2, 1, 3)
            for y in (self.q_proj(x), self.k_proj(source), self.v_proj(source))
        )
        if cache is not None:
            if cache:
                k = mx.concatenate([cache[0], k], axis=2)
                v = mx.concatenate([cache[1], v], axis=2)
            cache[:] = [k, v]
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=(dim // self.heads) ** -0.5)
        return self.out_proj(y.transpose(0, 2, 1, 3).reshape(x.shape))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = _Attention(dim, heads), _Attention(dim, heads)
        self.norms = [nn.LayerNorm(dim) for _ in range(3)]
        self.fc1, self.fc2 = nn.Linear(dim, ffn, bias=False), nn.Linear(ffn, dim, bias=False)

    def __call__(self, x: mx.array, conditioning: mx.array, cache: list[mx.array]) -> mx.array:
        y = self.norms[0](x)
        x = x + self.self_attention(y, y, cache)
        x = x + self.cross_attention(self.norms[1](x), conditioning)
        return x + self.fc2(nn.gelu(self.fc1(self.norms[2](x))))


class _Model(nn.Module):
    def __init__(self, decoder: dict[str, int]) -> None:
        super().__init__()
        dim, K, V = decoder["hidden_size"], decoder["num_codebooks"], decoder["vocab_size"]
        self.dim = dim
        self.embeddings = [nn.Embedding(V + 1, dim) for _ in range(K)]
        self.blocks = [
            _Block(dim, decoder["num_attention_heads"], decoder["ffn_dim"])
            for _ in range(decoder["num_hidden_layers"])
        ]
        self.norm = nn.LayerNorm(dim)
        self.heads = [nn.Linear(dim, V, bias=False) for _ in range(K)]

    def __call__(
        self,
        tokens: mx.array,
        offset: int,
        conditioning: mx.array,
        caches: list[list[mx.array]],
    ) -> mx.array:
        x = sum(embed(tokens[:, k]) for k, embed in enumerate(self.embeddings))
        half = self.dim // 2
        phase = offset * mx.exp(mx.arange(half) * (-math.log(10_000) / (half - 1)))
        x = x + mx.concatenate([mx.cos(phase), mx.sin(phase)]).astype(x.dtype)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, conditioning, cache)
        x = self.norm(x)
        return mx.stack([head(x) for head in self.heads], axis=2)[:, -1]


class Row:
    """The loop in float16; `steps` of its steps are run, and the rest estimated from them."""

    def __init__(self, shape: str, prompt_s: float, output_s: float, steps: int) -> None:
        mx.set_cache_limit(shapes.CACHE_BYTES)
        self._decoder = shapes.config(shape)["decoder"]
        self._model = _Model(self._decoder)
        self._model.set_dtype(mx.float16)
        mx.eval(self._model.parameters())
        self._prompt, self._total = round(50 * prompt_s), round(50 * output_s) + 3
        self._steps = steps
        self.about = {"mlx": version("mlx"), "dtype": "float16"}

    def run(self, variant: str) -> dict[str, float]:
        """Generate the measured steps."""
        decoder = self._decoder
        K, V = decoder["num_codebooks"], decoder["vocab_size"]
        conditioning = mx.zeros((1, 8, decoder["hidden_size"]), mx.float16)
        caches: list[list[mx.array]] = [[] for _ in self._model.blocks]
        tokens = np.full((1, K, 1), V)
        mx.reset_peak_memory()
        start = time.perf_counter()
        steps = min(self._steps, self._total)
        for offset in range(steps):
            logits = self._model(mx.array(tokens), offset, conditioning, caches)[0]
            logits = logits.astype(mx.float32)
            kept = min(250, V)
            edge = mx.sort(logits, axis=-1)[:, V - kept : V - kept + 1]
            sampled = mx.random.categorical(mx.where(logits < edge, -mx.inf, logits))
            mx.eval(sampled, caches)
            tokens = np.array(sampled)[None, :, None]
        step_s = (time.perf_counter() - start) / steps
        return {
            "ms a step": 1000 * step_s,
            "prefill s": step_s * self._prompt,
            "reckoned end to end s": step_s * self._total,
            "peak GB": mx.get_peak_memory() / 1e9,
        }
