"""EnCodec (https://arxiv.org/abs/2210.13438), always in float32, with channels last.

The layers and their numbers are those of the checkpoint, so that their weights find them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.config import CodecConfig

STEPS_PER_EVAL = 256
"""Steps of an LSTM whose graph is built before it is evaluated, to bound memory."""


class Conv(nn.Module):
    """A convolution that keeps `ceil(T / stride)` steps, padded as the configuration says."""

    def __init__(
        self,
        config: CodecConfig,
        into: int,
        out: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(into, out, kernel, stride, dilation=dilation)
        self._config = config
        self._stride = stride
        self._span = (kernel - 1) * dilation + 1

    def __call__(self, x: mx.array) -> mx.array:
        length = x.shape[1]
        total = self._span - self._stride
        # The last step may lack samples; without them its frame would be lost.
        short = -(-length // self._stride) * self._stride - length
        right = short if self._config.causal else total // 2 + short
        left = total if self._config.causal else total - total // 2
        return self.conv(_pad(x, left, right, self._config.pad_mode))


def _pad(x: mx.array, left: int, right: int, mode: str) -> mx.array:
    """Pad time; a reflection longer than the signal reflects zeros behind it, as EnCodec does."""
    if left == right == 0:
        return x
    widths = [(0, 0), (left, right), (0, 0)]
    if mode != "reflect":
        return mx.pad(x, widths)
    behind = max(0, max(left, right) - x.shape[1] + 1)
    x = mx.pad(x, [(0, 0), (0, behind), (0, 0)])
    x = mx.pad(x, widths, mode="reflect")
    return x[:, : x.shape[1] - behind]


class ConvTranspose(nn.Module):
    """A transposed convolution that makes exactly `stride` steps of each."""

    def __init__(self, config: CodecConfig, into: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(into, out, kernel, stride)
        total = kernel - stride
        self._right = math.ceil(total * config.trim_right_ratio) if config.causal else total // 2
        self._left = total - self._right

    def __call__(self, x: mx.array) -> mx.array:
        y = self.conv(x)
        return y[:, self._left : y.shape[1] - self._right]


class Residual(nn.Module):
    """ELU, dilated convolution, ELU, 1×1 convolution, around a skip."""

    def __init__(self, config: CodecConfig, dim: int, dilation: int) -> None:
        super().__init__()
        hidden = dim // config.compress
        self.block = [
            nn.ELU(),
            Conv(config, dim, hidden, config.residual_kernel_size, dilation=dilation),
            nn.ELU(),
            Conv(config, hidden, dim, 1),
        ]
        if config.conv_shortcut:
            self.shortcut = Conv(config, dim, dim, 1)

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in self.block:
            y = layer(y)
        return y + (self.shortcut(x) if "shortcut" in self else x)


class LSTMLayer(nn.Module):
    """One layer of an LSTM, gates in torch's order: input, forget, cell, output."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.Wx = mx.zeros((4 * dim, dim))
        self.Wh = mx.zeros((4 * dim, dim))
        self.bias = mx.zeros((4 * dim,))

    def __call__(self, x: mx.array) -> mx.array:
        B, T, dim = x.shape
        # The input's share of all steps is one product; only the hidden state's is sequential.
        projected = mx.addmm(self.bias, x, self.Wx.T)
        Wh = self.Wh.T
        h, c = mx.zeros((B, dim)), mx.zeros((B, dim))
        outputs = []
        for t in range(T):
            i, f, g, o = mx.split(mx.addmm(projected[:, t], h, Wh), 4, axis=-1)
            c = mx.sigmoid(f) * c + mx.sigmoid(i) * mx.tanh(g)
            h = mx.sigmoid(o) * mx.tanh(c)
            outputs.append(h)
            if t % STEPS_PER_EVAL == STEPS_PER_EVAL - 1:
                mx.async_eval(h, c)
        return mx.stack(outputs, axis=1)


class LSTM(nn.Module):
    """Layers of an LSTM around a skip."""

    def __init__(self, config: CodecConfig, dim: int) -> None:
        super().__init__()
        self.lstm = [LSTMLayer(dim) for _ in range(config.num_lstm_layers)]

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in self.lstm:
            y = layer(y)
        return x + y


class Stack(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers: Iterator[nn.Module]) -> None:
        super().__init__()
        self.layers = list(layers)

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.layers:
            x = layer(x)
        return x


def _encoder_layers(config: CodecConfig) -> Iterator[nn.Module]:
    dim = config.num_filters
    yield Conv(config, config.audio_channels, dim, config.kernel_size)
    for ratio in reversed(config.ratios):
        for n in range(config.num_residual_layers):
            yield Residual(config, dim, config.dilation_growth**n)
        yield nn.ELU()
        yield Conv(config, dim, 2 * dim, 2 * ratio, ratio)
        dim *= 2
    yield LSTM(config, dim)
    yield nn.ELU()
    yield Conv(config, dim, config.hidden_size, config.last_kernel_size)


def _decoder_layers(config: CodecConfig) -> Iterator[nn.Module]:
    dim = config.num_filters * 2 ** len(config.ratios)
    yield Conv(config, config.hidden_size, dim, config.kernel_size)
    yield LSTM(config, dim)
    for ratio in config.ratios:
        yield nn.ELU()
        yield ConvTranspose(config, dim, dim // 2, 2 * ratio, ratio)
        dim //= 2
        for n in range(config.num_residual_layers):
            yield Residual(config, dim, config.dilation_growth**n)
    yield nn.ELU()
    yield Conv(config, dim, config.audio_channels, config.last_kernel_size)


class Codec(nn.Module):
    """Waveform to codes and back.

    Attributes:
        codebooks: `(K, entries, dim)`, each of which quantizes what the ones before it left over.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.encoder = Stack(_encoder_layers(config))
        self.decoder = Stack(_decoder_layers(config))
        self.codebooks = mx.zeros((config.num_codebooks, config.codebook_size, config.codebook_dim))

    def encode(self, samples: mx.array, num_codebooks: int) -> tuple[mx.array, mx.array]:
        """Codes `(B, K, F)` int32 of samples `(B, T, 1)`, with the first `num_codebooks`.

        Returns:
            The codes, and whether the encoder's output, which they stand for, is finite.
        """
        residual = self.encoder(samples)
        finite, codes = mx.isfinite(residual).all(), []
        for codebook in self.codebooks[:num_codebooks]:
            # |x - e|² without |x|², which is the same for all entries.
            distance = mx.square(codebook).sum(axis=-1) - 2 * (residual @ codebook.T)
            codes.append(mx.argmin(distance, axis=-1).astype(mx.int32))
            residual = residual - codebook[codes[-1]]
        return mx.stack(codes, axis=1), finite

    def decode(self, codes: mx.array) -> mx.array:
        """Samples `(B, T, 1)` of codes `(B, K, F)`."""
        frames = mx.zeros(())
        for k in range(codes.shape[1]):
            frames = frames + self.codebooks[k][codes[:, k]]
        return self.decoder(frames)
