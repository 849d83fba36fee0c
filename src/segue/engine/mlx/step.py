"""A decode step: one column in, the next one out, in as few launches as can be.

The same model as `lm` runs for many columns, written for one: hidden states are `(B, dim)`, and
nothing is transposed.  Where a kernel of `kernels` is on it takes the place of several primitives;
the cases that it does not take, and every other machine, use MLX's own primitives beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn

from . import activations, kernels
from .cache import Cache
from .kernels import ATTEND, EMBED, LAYER, LINEAR, SAMPLE
from .lm import LM, CrossAttention, CrossKV, Layer
from .lookups import Lookup
from .sampling import Controls, Sampler, next_tokens

Text = mx.array | tuple[mx.array, ...]
"""What a layer attends to: keys and values, with a mask behind them where rows have different
texts; or a text that is folded into weights."""

StepFunction = Callable[..., tuple[mx.array, Cache]]
"""A `Step`, or what `mx.compile` makes of one: called as `Step.__call__`."""


class Step:
    """One decode step of a model.

    Args:
        lm: the model.
        sampler: how tokens are sampled.
        kernels_on: those of `kernels.NAMES` that take the place of MLX's primitives.

    Attributes:
        lm, sampler: as given.
        lookup: finds rows of embeddings.
    """

    def __init__(self, lm: LM, sampler: Sampler, kernels_on: frozenset[str] = frozenset()) -> None:
        self.lm, self.sampler, self._on = lm, sampler, kernels_on
        self.lookup = Lookup(kernels_on)
        if LAYER in kernels_on:
            for layer in lm.layers:
                kernels.packed_layer(layer)
            kernels.packed_heads(lm)

    @property
    def makes_noise(self) -> bool:
        """Whether it takes keys of noise (`sampling.Noise`) in place of noise."""
        return SAMPLE in self._on and not self.sampler.top_p

    def compiled(self) -> StepFunction:
        """The step, traced once for each shape of its arguments (batch, bucket, text length)."""
        run: StepFunction = mx.compile(self)
        return run

    def folded(self, cross: CrossKV | None, takes: int) -> list[mx.array] | None:
        """Fold one text into the layers' weights, once per request, in place of keys and values.

        Args:
            cross: keys and values `(1, H, L, D)`, or None.
            takes: how many, N.

        Returns:
            For each layer, the text folded into its weights (`kernels.packed_text`).  None where
            the step has no kernel for it, or does not take this text or so many.
        """
        if cross is None:
            return None
        layers, tokens = self.lm.layers, cross[0][0].shape[2]
        rows = 2 * takes if self.sampler.guided else takes
        if not all(self._is_one_kernel(layer, rows, tokens) for layer in layers):
            return None
        return [kernels.packed_text(layer, kv) for layer, kv in zip(layers, cross, strict=True)]

    def _is_one_kernel(self, layer: Layer, rows: int, text: int) -> bool:
        """Whether all of a layer is one kernel, with a text of so many tokens or, if 0, none."""
        return LAYER in self._on and kernels.layer_fits(layer, rows, self.lm.dtype, text)

    def __call__(
        self,
        tokens: mx.array,
        known: mx.array,
        position: mx.array,
        mask: mx.array | None,
        gumbel: mx.array | None,
        controls: Controls,
        cache: Cache,
        cross: CrossKV | list[mx.array] | None,
        alike: mx.array | None = None,
    ) -> tuple[mx.array, Cache]:
        """Run one decode step and return the next tokens.

        Args:
            tokens: `(N, K)` int32, the column at `position`.
            known: `(N, K)` int32 of the column after it, `UNKNOWN` where it is to be sampled.
            position: `(1,)` int32, how many columns are in the cache.
            mask: `(L,)`, from `cache.Masks`; None with the kernel, which needs none.
            gumbel: see `Sampler`.
            controls: see `sampling.controls`.
            cache: of N rows, or 2N with guidance; with the kernel it is written in place.
            cross: keys and values for as many rows, or from `folded`, or None.
            alike: how many of the first positions are the same for all takes, see
                `kernels.layers_forward`; nothing but speed depends on it.

        Returns:
            The next column `(N, K)` int32, and the cache with this one in it.
        """
        x = self.embed(tokens, position)
        logits, new = self.logits_after(x, position, mask, cache, cross, alike)
        return self.sample(logits, known, gumbel, controls), new

    def logits_after(
        self,
        x: mx.array,
        position: mx.array,
        mask: mx.array | None,
        cache: Cache,
        cross: Sequence[Text] | None,
        alike: mx.array | None = None,
    ) -> tuple[mx.array, Cache]:
        """Logits `(B, K, V)` float32 after hidden states `(B, dim)`, and the cache with them in it.

        The other arguments are those of a step.
        """
        lm = self.lm
        logits = self.layers_forward(x, cache, position, cross, alike)
        if logits is not None:
            return self._of_heads(logits), cache
        new: Cache = []
        for n, layer in enumerate(lm.layers):
            text = None if cross is None else cross[n]
            qkv = self.linear(x, layer.self_attn.qkv_proj, layer.self_attn_layer_norm)
            y, kv = self.attend(layer, qkv, cache[n], position, mask)
            new.append(kv)
            x = self.linear(y, layer.self_attn.out_proj, residual=x)
            if isinstance(text, tuple):
                x = self.cross_attend(x, layer.encoder_attn, layer.encoder_attn_layer_norm, *text)
            y = self.linear(x, layer.fc1, layer.final_layer_norm, gelu=True)
            x = self.linear(y, layer.fc2, residual=x)
        logits = self.linear(x, lm.lm_heads, lm.layer_norm, dtype=mx.float32)
        return self._of_heads(logits), new

    def _of_heads(self, logits: mx.array) -> mx.array:
        """Logits `(B, K, V)`."""
        config = self.lm.config
        return logits.reshape(-1, config.num_codebooks, config.cardinality)

    def embed(self, tokens: mx.array, position: mx.array) -> mx.array:
        """Hidden states `(B, dim)`: each take twice with guidance, the conditioned ones first."""
        lm, N = self.lm, len(tokens)
        rows = 2 * N if self.sampler.guided else N
        if EMBED in self._on:
            x = kernels.embed(tokens, lm.embed_tokens, lm.positions, position, rows)
            if x is not None:
                return x
        x = lm.embed_tokens(tokens + lm.offsets).sum(axis=1)
        x = x + lm.positions[position].astype(x.dtype)
        return mx.concatenate([x, x]) if self.sampler.guided else x

    def layers_forward(
        self,
        x: mx.array,
        cache: Cache,
        position: mx.array,
        cross: Sequence[Text] | None,
        alike: mx.array | None = None,
    ) -> mx.array | None:
        """Logits `(B, K · V)` if all layers are kernels, else None.

        Layers that are alike are one launch, the heads included; those of a model are alike.
        """
        texts: list[mx.array] | None = None
        for text in cross or ():
            if isinstance(text, tuple):
                return None
            texts = [*(texts or ()), text]
        lm, rows = self.lm, len(x)
        layers = lm.layers
        tokens = 0 if texts is None else kernels.tokens_of(texts[0], layers[0])
        if not all(self._is_one_kernel(layer, rows, tokens) for layer in layers):
            return None
        takes = rows // 2 if self.sampler.guided else rows
        heads = lm if kernels.heads_fit(lm, rows) else None
        start = 0
        while start < len(layers):
            stop = start + 1
            while stop < len(layers) and kernels.alike(layers[start : stop + 1]):
                stop += 1
            last = stop == len(layers)
            following = kernels.packed_heads(lm) if last else kernels.packed_layer(layers[stop])
            x = kernels.layers_forward(
                x,
                layers[start:stop],
                cache[start:stop],
                position,
                None if texts is None else texts[start:stop],
                takes,
                following.data,
                heads if last else None,
                alike,
            )
            start = stop
        if heads is not None:
            return x
        return self.linear(x, lm.lm_heads, lm.layer_norm, dtype=mx.float32)

    def linear(
        self,
        x: mx.array,
        layer: nn.Module,
        norm: nn.Module | None = None,
        gelu: bool = False,
        residual: mx.array | None = None,
        dtype: mx.Dtype | None = None,
    ) -> mx.array:
        """`layer` of `x` `(B, dim)`: a norm before it, GELU or a residual after it."""
        if LINEAR in self._on:
            y = kernels.linear(x, layer, norm, gelu, residual, dtype)
            if y is not None:
                return y
        y = layer(x if norm is None else norm(x))
        if gelu:
            y = activations.gelu(y)
        if residual is not None:
            y = residual + y
        return y if dtype is None else y.astype(dtype)

    def attend(
        self,
        layer: Layer,
        qkv: mx.array,
        kv: mx.array,
        position: mx.array,
        mask: mx.array | None,
    ) -> tuple[mx.array, mx.array]:
        """Self-attention's output `(B, dim)`, and the cache with the new key and value in it."""
        B, _, H, _, D = kv.shape
        if ATTEND in self._on:
            return kernels.attend(qkv, kv, position, H), kv
        qkv = qkv.reshape(B, 3, H, 1, D)
        kv = mx.slice_update(kv, qkv[:, 1:], position, axes=(3,))
        y = mx.fast.scaled_dot_product_attention(
            qkv[:, 0], kv[:, 0], kv[:, 1], scale=layer.self_attn.scale, mask=mask
        )
        return y.reshape(B, -1), kv

    def cross_attend(
        self,
        x: mx.array,
        attention: CrossAttention,
        norm: nn.Module,
        k: mx.array,
        v: mx.array,
        mask: mx.array | None = None,
    ) -> mx.array:
        """Hidden states `(B, dim)` after cross-attention over keys and values `(B, H, L, D)`.

        With a mask `(B, 1, 1, L)`, each row attends where it is true.
        """
        B, H, _, D = k.shape
        q = self.linear(x, attention.q_proj, norm).reshape(B, H, 1, D)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=attention.scale, mask=mask)
        return self.linear(y.reshape(B, -1), attention.out_proj, residual=x)

    def sample(
        self,
        logits: mx.array,
        known: mx.array,
        gumbel: mx.array | None,
        controls: Controls,
    ) -> mx.array:
        """Tokens `(N, K)` of the next column: `known` where they are, sampled elsewhere."""
        if self.makes_noise:
            return kernels.sample(
                logits, gumbel, known, *controls, self.sampler.top_k, self.sampler.guided
            )
        return next_tokens(self.sampler, logits, known, gumbel, controls)
