"""The language model over whole windows, layer by layer, with the inputs of its products in view.

What engines compute, in float32 and without a cache: one layer's weights are in memory at a time,
and every window passes a layer before the next one is read.  Products are numpy's, whose BLAS is a
fast one everywhere; MLX's wheel for Linux brings the reference BLAS.

Windows may differ in length.  Their positions lie one below the other, as the rows of one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx
import numpy as np

from ..checkpoints.config import LMConfig, QuantizationConfig
from ..checkpoints.layouts import LM, MELODY_PROJECTION, PROJECTION
from ..checkpoints.tensors import Tensors
from ..engine.mlx.lm import position_table
from ..pattern import delay

Weight = Callable[[str], np.ndarray]
"""Returns a tensor of the language model in float32, by its name; a quantized one dequantized."""

Capture = Callable[[str, np.ndarray], None]
"""Is given the input `(rows, columns)` of a product, some rows at a time, by the name of its site.

A site is what all modules read that have one input: see `site_of`.
"""

HEADS = "decoder.lm_heads"
EPSILON = np.float32(1e-5)
_ROWS = 4096
_ELEMENTS = 1 << 15


def site_of(module: str) -> str:
    """Return the name of the input of a module: that of its first sibling with the same one."""
    parent, _, name = module.rpartition(".")
    if parent == HEADS:
        return HEADS
    if parent.endswith("self_attn") and name in ("q_proj", "k_proj", "v_proj"):
        return f"{parent}.q_proj"
    if parent.endswith("encoder_attn") and name in ("k_proj", "v_proj"):
        return f"{parent}.k_proj"
    return module


def weights_of(
    tensors: Tensors,
    quantization: QuantizationConfig | None = None,
    replaced: Mapping[str, np.ndarray] | None = None,
    dtype: mx.Dtype | None = None,
) -> Weight:
    """Return what reads a checkpoint's weights, which stay in it.

    Args:
        tensors: the checkpoint's `lm`.
        quantization: what of it is quantized.
        replaced: tensors, by name, that stand in the place of the checkpoint's.
        dtype: what floats are rounded to before they are widened; None leaves them as stored.
    """
    replaced = {} if replaced is None else replaced

    def read(name: str) -> np.ndarray:
        if name in replaced:
            return replaced[name]
        module = name.removesuffix(".weight")
        scales = tensors.get(f"{module}.scales")
        if scales is not None and name.endswith(".weight") and quantization is not None:
            biases, params = tensors.get(f"{module}.biases"), quantization.of(module)
            return dense(
                mx.array(tensors[name].read()),
                mx.array(scales.read()),
                None if biases is None else mx.array(biases.read()),
                params.group_size,
                params.bits,
                params.mode,
            )
        values = tensors[name].read()
        if dtype is not None:
            values = np.array(mx.array(values).astype(dtype).astype(mx.float32))
        return np.ascontiguousarray(values, np.float32)

    return read


def dense(
    weight: mx.array,
    scales: mx.array,
    biases: mx.array | None,
    group_size: int,
    bits: int,
    mode: str = "affine",
) -> np.ndarray:
    """Return the float32 values of packed rows, as engines that compute in float32 have them."""
    if mode == "affine":
        scales = scales.astype(mx.float32)
        biases = None if biases is None else biases.astype(mx.float32)
    values = mx.dequantize(weight, scales, biases, group_size, bits, mode)
    return np.array(values.astype(mx.float32))


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows as the model runs them.

    Attributes:
        tokens: of each window, `(S, K)`: its sequence in the delay pattern.
        encoded: of each, the text encoder's output `(L, text_dim)`; None for no text.
    """

    tokens: tuple[np.ndarray, ...]
    encoded: tuple[np.ndarray | None, ...]

    @classmethod
    def of(
        cls,
        config: LMConfig,
        codes: Sequence[np.ndarray],
        encoded: Sequence[np.ndarray | None] | None = None,
    ) -> Windows:
        """Lay out windows of codes, each `(K, F)`, and the texts that go with them."""
        tokens = [delay(each, config.delays, config.special_token).T for each in codes]
        texts = [None] * len(tokens) if encoded is None else encoded
        return cls(tuple(tokens), tuple(texts))

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, numbers: Sequence[int]) -> Windows:
        """Return those with the numbers `numbers`, in that order."""
        tokens = tuple(self.tokens[n] for n in numbers)
        return Windows(tokens, tuple(self.encoded[n] for n in numbers))


class Forward:
    """A language model that runs windows layer by layer.

    Args:
        config: its shape.
        weight: reads its tensors.
    """

    def __init__(self, config: LMConfig, weight: Weight) -> None:
        self.config, self.weight = config, weight

    def start(self, windows: Windows) -> Hidden:
        """Return the hidden states before the first layer."""
        c = self.config
        tables = [self.weight(f"{LM}embed_tokens.{k}.weight") for k in range(c.num_codebooks)]
        project = self.weight(f"{PROJECTION}weight").T, self.weight(f"{PROJECTION}bias")
        rows, text = [], []
        for tokens, encoded in zip(windows.tokens, windows.encoded, strict=True):
            x = sum(table[tokens[:, k]] for k, table in enumerate(tables))
            given = None if encoded is None else encoded @ project[0] + project[1]
            if c.melody is not None:
                x = np.concatenate([self._melody(given), x])
                given = None
            rows.append(x)
            text.append(given)
        edges = np.cumsum([0, *map(len, rows)])
        longest = int(np.diff(edges).max())
        positions = np.array(position_table(longest, c.dim))
        for each in rows:
            each += positions[: len(each)]
        return Hidden(np.concatenate(rows), edges, tuple(map(len, windows.tokens)), tuple(text))

    def _melody(self, text: np.ndarray | None) -> np.ndarray:
        """What comes before the sequence of a melody model that is given no melody."""
        melody = self.config.melody
        assert melody is not None  # noqa: S101 - asked for of melody models alone
        weight = self.weight(f"{MELODY_PROJECTION}weight")
        first = self.weight(f"{MELODY_PROJECTION}bias")
        if melody.strongest:  # the first pitch class is that of silence
            first = first + weight[:, 0]
        text = np.zeros((1, self.config.dim), np.float32) if text is None else text
        return np.concatenate([np.tile(first, (melody.frames, 1)), text])

    def layer(self, n: int, hidden: Hidden, capture: Capture | None = None) -> Hidden:
        """Run layer `n` (from 0); `hidden` stays as it is."""
        return _Layer(self.config, n, self.weight)(hidden, capture or _ignored)

    def through(self, hidden: Hidden, first: int = 0, capture: Capture | None = None) -> Hidden:
        """Run the layers from `first` on."""
        for n in range(first, self.config.num_layers):
            hidden = self.layer(n, hidden, capture)
        return hidden

    def last(self, hidden: Hidden, capture: Capture | None = None) -> np.ndarray:
        """Return what the heads read `(rows, dim)`: the last norm of every column of the windows.

        Columns of the windows lie one below the other; a melody's prefix is left out.
        """
        weight, bias = (self.weight(f"{LM}layer_norm.{part}") for part in ("weight", "bias"))
        x = _normed(hidden.columns(), weight, bias)
        if capture is not None:
            capture(HEADS, x)
        return x

    def head(self) -> np.ndarray:
        """Return the heads' weights `(K * V, dim)`, one below the other."""
        K = self.config.num_codebooks
        return np.concatenate([self.weight(f"{HEADS}.{k}.weight") for k in range(K)])

    def logits(self, windows: Windows, capture: Capture | None = None) -> np.ndarray:
        """Return logits `(rows, K, V)` float32 after each column of the windows, all in memory."""
        last = self.last(self.through(self.start(windows), capture=capture), capture)
        logits: np.ndarray = last @ self.head().T
        return logits.reshape(len(last), self.config.num_codebooks, -1)


@dataclass(frozen=True, eq=False)
class Hidden:
    """The hidden states of windows between two layers.

    Attributes:
        x: `(rows, dim)` float32.
        edges: `(N + 1,)`, the row where each window begins; the last is where all end.
        counts: the columns of each window, at its end; before them may be a prefix.
        text: of each window, what cross-attention reads `(L, dim)`; None for nothing.
    """

    x: np.ndarray
    edges: np.ndarray
    counts: tuple[int, ...]
    text: tuple[np.ndarray | None, ...]

    def columns(self) -> np.ndarray:
        """The rows of the windows' columns."""
        if sum(self.counts) == len(self.x):
            return self.x
        ends = self.edges[1:]
        parts = [self.x[end - n : end] for end, n in zip(ends, self.counts, strict=True)]
        return np.concatenate(parts)

    def spread(self, columns: np.ndarray) -> np.ndarray:
        """Rows for all, zero but for those of the windows' columns: what `columns` undoes."""
        if len(columns) == len(self.x):
            return columns
        rows, start = np.zeros_like(self.x), 0
        for end, n in zip(self.edges[1:], self.counts, strict=True):
            rows[end - n : end] = columns[start : (start := start + n)]
        return rows

    def with_x(self, x: np.ndarray) -> Hidden:
        """Return the same windows with other values."""
        return Hidden(x, self.edges, self.counts, self.text)


def _ignored(site: str, rows: np.ndarray) -> None:
    pass


class _Layer:
    def __init__(self, config: LMConfig, n: int, weight: Weight) -> None:
        self._name, self._config = f"{LM}layers.{n}.", config
        self._weight = weight

    def _read(self, name: str) -> np.ndarray:
        return self._weight(self._name + name)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return _normed(x, self._read(f"{name}.weight"), self._read(f"{name}.bias"))

    def __call__(self, hidden: Hidden, capture: Capture) -> Hidden:
        x = hidden.x.copy()
        self._attend(x, hidden, capture)
        if any(text is not None for text in hidden.text):
            self._attend_to_text(x, hidden, capture)
        self._feed_forward(x, capture)
        return hidden.with_x(x)

    def _attend(self, x: np.ndarray, hidden: Hidden, capture: Capture) -> None:
        names = ("q_proj", "k_proj", "v_proj")
        project = np.concatenate([self._read(f"self_attn.{part}.weight") for part in names]).T
        out = self._read("self_attn.out_proj.weight").T
        for start, stop in pairwise(hidden.edges):
            normed = self._norm(x[start:stop], "self_attn_layer_norm")
            capture(f"{self._name}self_attn.q_proj", normed)
            parts = np.split(normed @ project, 3, axis=1)
            q, k, v = (_split(each, self._config.num_heads) for each in parts)
            y = _causal(q, k, v)
            capture(f"{self._name}self_attn.out_proj", y)
            x[start:stop] += y @ out

    def _attend_to_text(self, x: np.ndarray, hidden: Hidden, capture: Capture) -> None:
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        q_proj, k_proj, v_proj, out = (self._read(f"encoder_attn.{n}.weight").T for n in names)
        for (start, stop), text in zip(pairwise(hidden.edges), hidden.text, strict=True):
            if text is None:
                continue
            normed = self._norm(x[start:stop], "encoder_attn_layer_norm")
            capture(f"{self._name}encoder_attn.q_proj", normed)
            capture(f"{self._name}encoder_attn.k_proj", text)
            parts = (normed @ q_proj, text @ k_proj, text @ v_proj)
            q, k, v = (_split(each, self._config.num_heads) for each in parts)
            y = _joined(_softmax(q @ k.transpose(0, 2, 1) * _scale(q)) @ v)
            capture(f"{self._name}encoder_attn.out_proj", y)
            x[start:stop] += y @ out

    def _feed_forward(self, x: np.ndarray, capture: Capture) -> None:
        fc1, fc2 = self._read("fc1.weight").T, self._read("fc2.weight").T
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS]
            normed = self._norm(rows, "final_layer_norm")
            capture(f"{self._name}fc1", normed)
            y = normed @ fc1
            gelu(y)
            capture(f"{self._name}fc2", y)
            rows += y @ fc2


def _normed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred: np.ndarray = x - x.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    centred /= np.sqrt(variance + EPSILON)
    centred *= weight
    centred += bias
    return centred


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """`(S, dim)` to `(H, S, D)`."""
    return np.ascontiguousarray(x.reshape(len(x), heads, -1).transpose(1, 0, 2))


def _joined(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def _scale(q: np.ndarray) -> np.float32:
    return np.float32(q.shape[-1] ** -0.5)


def _softmax(scores: np.ndarray) -> np.ndarray:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _causal(q: np.ndarray, k: np.ndarray, v: np.ndarray, block: int = 128) -> np.ndarray:
    """Attention of each position to those up to it: `(S, dim)` of `(H, S, D)`.

    Queries are taken in blocks, which attend to nothing behind them: half of the work.
    """
    q = q * _scale(q)
    found = np.empty_like(q)
    for start in range(0, q.shape[1], block):
        stop = min(start + block, q.shape[1])
        scores = q[:, start:stop] @ k[:, :stop].transpose(0, 2, 1)
        hidden = np.triu(np.ones((stop - start, stop - start), bool), 1)
        scores[:, :, start:][:, hidden] = -np.inf
        found[:, start:stop] = _softmax(scores) @ v[:, :stop]
    return _joined(found)


_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_P = np.float32(0.3275911)


def gelu(x: np.ndarray) -> None:
    """Apply the exact GELU in place, to contiguous float32 values."""
    flat = x.reshape(-1)
    for start in range(0, flat.size, _ELEMENTS):  # a block stays in the processor's cache
        part = flat[start : start + _ELEMENTS]
        part *= normal_cdf(part)[0]


def normal_cdf(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Φ(x), the standard normal distribution's share below x, and `exp(-x² / 2)`.

    Its error function is Abramowitz and Stegun's 7.1.26, off by 1.5e-7 at most: float32's rounding.
    numpy has none, and MLX's takes ten times as long on the CPU.
    """
    half = np.float32(0.5)
    z = np.abs(x)
    z *= np.float32(0.5**0.5)
    t = 1 / (1 + _ERF_P * z)
    series = np.full_like(t, _ERF[-1])
    for factor in _ERF[-2::-1]:
        series *= t
        series += np.float32(factor)
    series *= t
    np.square(z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    series *= z  # 1 - erf(|x| / sqrt 2)
    series *= half
    return np.where(x < 0, series, 1 - series), z
