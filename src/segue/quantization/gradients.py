"""What `forward` computes, and the gradients of its weights: backpropagation, in float32.

Written out, because MLX's products on Linux are those of the reference BLAS, eighty times as slow
as numpy's; `tests/quantization/test_gradients.py` holds them against MLX's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..checkpoints.config import LMConfig
from ..checkpoints.layouts import LM
from .arithmetic import EPSILON, NumpyArithmetic, normal_cdf
from .evaluation import CONTEXT_FRAMES, Distributions, counted
from .forward import Forward
from .weights import HEADS, Weight
from .windows import Hidden, Windows

Gradient = Callable[[str, np.ndarray], None]
"""Is given the gradient of a tensor of the language model, by its name."""


def divergence_and_gradients(
    config: LMConfig,
    weight: Weight,
    windows: Windows,
    baseline: Distributions,
    numbers: Sequence[int],
    gradient: Gradient,
    context: int = CONTEXT_FRAMES,
) -> float:
    """Run a model over windows, and back: KL(baseline ‖ model) and its gradients.

    What products read and what attention weighs is in memory, of all layers at once.

    Args:
        config: the model's shape.
        weight: reads its tensors.
        windows: music.
        baseline: of the windows `numbers`, in the order of `windows`.
        numbers: which of the baseline's windows these are.
        gradient: called once for each product, norm and head that ran.
        context: columns at the start of a window that do not count; see `evaluation`.

    Returns:
        The mean over windows of nats per code, which the gradients are of.
    """
    forward = Forward(config, weight, NumpyArithmetic())
    hidden = forward.start(windows)
    layers = [_Layer(config, n, weight) for n in range(config.num_layers)]
    for layer in layers:
        hidden = layer.forward(hidden)
    norm = _Norm(f"{LM}layer_norm", weight)
    last = norm.forward(hidden.columns(0, len(windows)))
    loss, d_last = _heads(config, weight, last, windows, baseline, numbers, gradient, context)
    d = hidden.spread(norm.backward(d_last, gradient))
    for layer in reversed(layers):
        d = layer.backward(d, gradient)
    return loss


def _heads(
    config: LMConfig,
    weight: Weight,
    last: np.ndarray,
    windows: Windows,
    baseline: Distributions,
    numbers: Sequence[int],
    gradient: Gradient,
    context: int,
) -> tuple[float, np.ndarray]:
    """The divergence, and the gradient of what the heads read."""
    K, edges = config.num_codebooks, np.cumsum([0, *(len(each) for each in windows.tokens)])
    d_last, losses = np.zeros_like(last), []
    for k in range(K):
        head = weight(f"{HEADS}.{k}.weight")
        d_head = np.zeros_like(head)
        for (start, stop), number in zip(pairwise(edges), numbers, strict=True):
            at = counted(config, stop - start, context)[k]
            rows = slice(start + at.start, start + at.stop)
            p = baseline.log_softmax(number, k, at)
            z = last[rows] @ head.T
            z -= z.max(axis=-1, keepdims=True)
            q = np.exp(z)
            total = q.sum(axis=-1, keepdims=True)
            z -= np.log(total)
            np.subtract(p, z, out=z)
            np.exp(p, out=p)
            losses.append(np.einsum("fv,fv->f", p, z).mean(dtype=np.float64))
            q /= total
            q -= p
            q *= np.float32(1 / (len(q) * K * len(numbers)))
            d_last[rows] += q @ head
            d_head += q.T @ last[rows]
        gradient(f"{HEADS}.{k}.weight", d_head)
    return float(np.mean(losses)), d_last


class _Norm:
    def __init__(self, name: str, weight: Weight) -> None:
        self._name = name
        self._weight, self._bias = (weight(f"{name}.{part}") for part in ("weight", "bias"))

    def forward(self, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        self._per_deviation = 1 / np.sqrt(variance + np.float32(EPSILON))
        centred *= self._per_deviation
        self._normed = centred
        found: np.ndarray = centred * self._weight
        found += self._bias
        return found

    def backward(self, d: np.ndarray, gradient: Gradient) -> np.ndarray:
        normed = self._normed
        gradient(f"{self._name}.weight", np.einsum("rc,rc->c", d, normed))
        gradient(f"{self._name}.bias", d.sum(axis=0))
        d = d * self._weight
        along = np.einsum("rc,rc->r", d, normed)[:, None] / np.float32(d.shape[1])
        d -= d.mean(axis=1, keepdims=True)
        d -= normed * along
        d *= self._per_deviation
        return d


class _Products:
    """Products that read one input, the weights one below the other."""

    def __init__(self, names: Sequence[str], weight: Weight) -> None:
        self._names, self._weight = names, weight

    def _rows(self) -> list[np.ndarray]:
        return [self._weight(f"{name}.weight") for name in self._names]

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        product: np.ndarray = x @ np.concatenate(self._rows()).T
        return product

    def backward(self, d: np.ndarray, gradient: Gradient) -> np.ndarray:
        rows = self._rows()
        whole, end = d.T @ self._x, 0
        for name, part in zip(self._names, rows, strict=True):
            gradient(f"{name}.weight", whole[end : (end := end + len(part))])
        back: np.ndarray = d @ np.concatenate(rows)
        return back


@dataclass(frozen=True, eq=False)
class _Attention:
    """Softmax of what queries find in keys `(H, S, D)`, times values."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    shares: np.ndarray
    found: np.ndarray

    @classmethod
    def of(cls, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> _Attention:
        scores = q @ k.transpose(0, 2, 1)
        scores *= _scale(q)
        if causal:
            scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return cls(q, k, v, scores, scores @ v)

    def backward(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        d_v = self.shares.transpose(0, 2, 1) @ d
        scores = d @ self.v.transpose(0, 2, 1)
        scores -= np.einsum("hsd,hsd->hs", d, self.found)[..., None]
        scores *= self.shares
        scores *= _scale(self.q)
        return scores @ self.k, scores.transpose(0, 2, 1) @ self.q, d_v


def _scale(q: np.ndarray) -> np.float32:
    return np.float32(q.shape[-1] ** -0.5)


class _Layer:
    def __init__(self, config: LMConfig, n: int, weight: Weight) -> None:
        self._heads, name = config.num_heads, f"{LM}layers.{n}."
        self._has_text = config.melody is None

        def products(*names: str) -> _Products:
            return _Products([name + each for each in names], weight)

        def norm(which: str) -> _Norm:
            return _Norm(f"{name}{which}", weight)

        self._self_norm, self._last_norm = norm("self_attn_layer_norm"), norm("final_layer_norm")
        self._qkv = products("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        self._out = products("self_attn.out_proj")
        self._fc1, self._fc2 = products("fc1"), products("fc2")
        if self._has_text:
            self._text_norm = norm("encoder_attn_layer_norm")
            self._text_q = products("encoder_attn.q_proj")
            self._text_kv = products("encoder_attn.k_proj", "encoder_attn.v_proj")
            self._text_out = products("encoder_attn.out_proj")

    def forward(self, hidden: Hidden) -> Hidden:
        self._hidden = hidden
        x = hidden.x + self._attend(hidden)
        if any(text is not None for text in hidden.text):
            x[self._spoken()] += self._attend_to_text(x)
        y = self._fc1.forward(self._last_norm.forward(x))
        self._slope = gelu_and_slope(y)
        x += self._fc2.forward(y)
        return hidden.with_x(x)

    def backward(self, d: np.ndarray, gradient: Gradient) -> np.ndarray:
        inner = self._fc2.backward(d, gradient)
        inner *= self._slope
        d = d + self._last_norm.backward(self._fc1.backward(inner, gradient), gradient)
        if any(text is not None for text in self._hidden.text):
            rows = self._spoken()
            d[rows] += self._back_from_text(d[rows], gradient)
        d += self._back_from_attention(d, gradient)
        return d

    def _attend(self, hidden: Hidden) -> np.ndarray:
        qkv = self._qkv.forward(self._self_norm.forward(hidden.x))
        self._attentions = []
        for start, stop in pairwise(hidden.edges):
            parts = np.split(qkv[start:stop], 3, axis=1)
            q, k, v = (_split(each, self._heads) for each in parts)
            self._attentions.append(_Attention.of(q, k, v, causal=True))
        return self._out.forward(np.concatenate([_joined(a.found) for a in self._attentions]))

    def _back_from_attention(self, d: np.ndarray, gradient: Gradient) -> np.ndarray:
        inner, parts = self._out.backward(d, gradient), []
        for (start, stop), attention in zip(
            pairwise(self._hidden.edges), self._attentions, strict=True
        ):
            found = attention.backward(_split(inner[start:stop], self._heads))
            parts.append(np.concatenate([_joined(each) for each in found], axis=1))
        inner = self._qkv.backward(np.concatenate(parts), gradient)
        return self._self_norm.backward(inner, gradient)

    def _spoken(self) -> np.ndarray:
        """The rows of the windows that have text."""
        edges = zip(pairwise(self._hidden.edges), self._hidden.text, strict=True)
        return np.concatenate([np.arange(*edge) for edge, text in edges if text is not None])

    def _attend_to_text(self, x: np.ndarray) -> np.ndarray:
        q = self._text_q.forward(self._text_norm.forward(x[self._spoken()]))
        texts = [text for text in self._hidden.text if text is not None]
        kv = self._text_kv.forward(np.concatenate(texts))
        self._text_edges = np.cumsum([0, *(len(each) for each in texts)])
        lengths = np.diff(self._hidden.edges)
        spoken = [n for n, text in zip(lengths, self._hidden.text, strict=True) if text is not None]
        self._spoken_edges = np.cumsum([0, *spoken])
        self._text_attentions = []
        edges = zip(pairwise(self._spoken_edges), pairwise(self._text_edges), strict=True)
        for (start, stop), (first, end) in edges:
            parts = (q[start:stop], *np.split(kv[first:end], 2, axis=1))
            of_q, of_k, of_v = (_split(each, self._heads) for each in parts)
            self._text_attentions.append(_Attention.of(of_q, of_k, of_v, causal=False))
        found = [_joined(attention.found) for attention in self._text_attentions]
        return self._text_out.forward(np.concatenate(found))

    def _back_from_text(self, d: np.ndarray, gradient: Gradient) -> np.ndarray:
        inner, d_q, d_kv = self._text_out.backward(d, gradient), [], []
        for (start, stop), attention in zip(
            pairwise(self._spoken_edges), self._text_attentions, strict=True
        ):
            q, k, v = map(_joined, attention.backward(_split(inner[start:stop], self._heads)))
            d_q.append(q)
            d_kv.append(np.concatenate([k, v], axis=1))
        self._text_kv.backward(np.concatenate(d_kv), gradient)
        inner = self._text_q.backward(np.concatenate(d_q), gradient)
        return self._text_norm.backward(inner, gradient)


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """`(S, dim)` to `(H, S, D)`."""
    return np.ascontiguousarray(x.reshape(len(x), heads, -1).transpose(1, 0, 2))


def _joined(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


_ELEMENTS = 1 << 15
_DENSITY = np.float32((2 * np.pi) ** -0.5)


def gelu_and_slope(x: np.ndarray) -> np.ndarray:
    """Apply the exact GELU in place to contiguous values, and return its slope there."""
    slope = np.empty_like(x)
    flat, slopes = x.reshape(-1), slope.reshape(-1)
    for start in range(0, flat.size, _ELEMENTS):
        part = flat[start : start + _ELEMENTS]
        below, bell = normal_cdf(part)
        bell *= part
        bell *= _DENSITY
        bell += below
        slopes[start : start + _ELEMENTS] = bell
        part *= below
    return slope
