"""What a layer computes, on the device that is fastest for it: numpy on the cores, MLX on a GPU.

numpy is the reference.  On two x86 cores its BLAS multiplies thirty times as fast as the one in
MLX's wheel for Linux, and macOS's own is behind both, so MLX computes only where it has a GPU.
Everything is float32; what differs between the two is the order of sums.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx
import numpy as np

EPSILON = 1e-5
"""Of layer norms."""

Values = Any
"""float32 values where they are computed with: `np.ndarray` or `mx.array`."""


class Arithmetic(Protocol):
    """The steps of a layer, over rows one below the other."""

    name: str
    """Results of one name are the same to the bit on one machine."""

    def take(self, values: np.ndarray) -> Values:
        """Bring float32 values to the device."""

    def give(self, values: Values) -> np.ndarray:
        """Bring them back, computed."""

    def compute(self, *values: Values) -> None:
        """Compute now what may have been put off."""

    def product(self, x: Values, weight: Values) -> Values:
        """Return `x · weightᵀ`, of `(n, in)` and `(out, in)`."""

    def moments(self, x: Values) -> Values:
        """Return `xᵀ · x`."""

    def normed(self, x: Values, weight: Values, bias: Values) -> Values:
        """Return the layer norm of each row."""

    def attended(self, q: Values, k: Values, v: Values, heads: int, causal: bool) -> Values:
        """Attend from each row of `q` to those of `k` and `v`; causally to those up to it."""

    def gelu(self, x: Values) -> Values:
        """Return the exact GELU; `x` may be overwritten."""

    def joined(self, parts: list[Values]) -> Values:
        """Return rows one below the other."""


def default_arithmetic() -> Arithmetic:
    """Return MLX's where its default device is a GPU, else numpy's."""
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    return MLXArithmetic() if on_gpu else NumpyArithmetic()


class MLXArithmetic:
    """By MLX, on its default device."""

    name = "mlx"

    def take(self, values: np.ndarray) -> mx.array:
        """See `Arithmetic`."""
        return mx.array(values)

    def give(self, values: mx.array) -> np.ndarray:
        """See `Arithmetic`."""
        return np.array(values)

    def compute(self, *values: mx.array) -> None:
        """See `Arithmetic`."""
        mx.eval(*values)

    def product(self, x: mx.array, weight: mx.array) -> mx.array:
        """See `Arithmetic`."""
        return x @ weight.T

    def moments(self, x: mx.array) -> mx.array:
        """See `Arithmetic`."""
        return x.T @ x

    def normed(self, x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        """See `Arithmetic`."""
        return mx.fast.layer_norm(x, weight, bias, EPSILON)

    def attended(self, q: mx.array, k: mx.array, v: mx.array, heads: int, causal: bool) -> mx.array:
        """See `Arithmetic`."""
        parts = (x.reshape(1, len(x), heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
        scale = (q.shape[1] // heads) ** -0.5
        mask = "causal" if causal else None
        found = mx.fast.scaled_dot_product_attention(*parts, scale=scale, mask=mask)
        return found.transpose(0, 2, 1, 3).reshape(q.shape)

    def gelu(self, x: mx.array) -> mx.array:
        """See `Arithmetic`."""
        return x * (1 + mx.erf(x * 0.5**0.5)) * 0.5

    def joined(self, parts: list[mx.array]) -> mx.array:
        """See `Arithmetic`."""
        return parts[0] if len(parts) == 1 else mx.concatenate(parts)


class NumpyArithmetic:
    """By numpy, on the cores."""

    name = "numpy"

    def take(self, values: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        return values

    def give(self, values: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        return values

    def compute(self, *values: np.ndarray) -> None:
        """See `Arithmetic`."""

    def product(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        found: np.ndarray = x @ weight.T
        return found

    def moments(self, x: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        found: np.ndarray = x.T @ x
        return found

    def normed(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        centred: np.ndarray = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        centred /= np.sqrt(variance + np.float32(EPSILON))
        centred *= weight
        centred += bias
        return centred

    def attended(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, causal: bool
    ) -> np.ndarray:
        """See `Arithmetic`."""
        q, k, v = (_split(each, heads) for each in (q, k, v))
        q *= np.float32(q.shape[-1] ** -0.5)
        if causal:
            return _causal(q, k, v)
        return _joined(_softmax(q @ k.transpose(0, 2, 1)) @ v)

    def gelu(self, x: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        gelu(x)
        return x

    def joined(self, parts: list[np.ndarray]) -> np.ndarray:
        """See `Arithmetic`."""
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """`(S, dim)` to `(H, S, D)`, a copy."""
    return np.array(x.reshape(len(x), heads, -1).transpose(1, 0, 2), order="C")


def _joined(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def _softmax(scores: np.ndarray) -> np.ndarray:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _causal(q: np.ndarray, k: np.ndarray, v: np.ndarray, block: int = 128) -> np.ndarray:
    """Attention of each position to those up to it: `(S, dim)` of `(H, S, D)`.

    Queries are taken in blocks, which attend to nothing behind them: half of the work.
    """
    found = np.empty_like(q)
    for start in range(0, q.shape[1], block):
        stop = min(start + block, q.shape[1])
        scores = q[:, start:stop] @ k[:, :stop].transpose(0, 2, 1)
        hidden = np.triu(np.ones((stop - start, stop - start), bool), 1)
        scores[:, :, start:][:, hidden] = -np.inf
        found[:, start:stop] = _softmax(scores) @ v[:, :stop]
    return _joined(found)


_ELEMENTS = 1 << 15
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
