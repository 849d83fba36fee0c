"""EnCodec (https://arxiv.org/abs/2210.13438), always in float32, with channels last.

The layers and their numbers are those of the checkpoint, so that their weights find them.  On CUDA
convolutions and LSTMs are kernels; what those do not take, MLX's own primitives do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn

from ...checkpoints.config import CodecConfig
from . import kernels
from .activations import ELU, elu
from .lookups import Lookup, entry

STEPS_PER_EVAL = 256
"""Steps of an LSTM whose graph is built before it is evaluated, to bound memory."""

AFTER_LSTM = 2
"""The decoder's first layer behind its LSTM."""


class Conv(nn.Module):
    """A convolution that keeps `ceil(T / stride)` steps, padded as the configuration says.

    Attributes:
        fused: whether the kernel runs where it fits.
    """

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
        self.fused = False
        self._config = config
        self._stride, self._dilation = stride, dilation
        self._span = (kernel - 1) * dilation + 1

    def __call__(
        self,
        x: mx.array,
        elu_before: bool = False,
        elu_after: bool = False,
        skip: mx.array | None = None,
    ) -> mx.array:
        """Convolve `(B, T, in)`, or its ELU; with `skip` added; or the ELU of that."""
        length = x.shape[1]
        total = self._span - self._stride
        steps = -(-length // self._stride)
        # The last step may lack samples; without them its frame would be lost.
        short = steps * self._stride - length
        right = short if self._config.causal else total // 2 + short
        left = total if self._config.causal else total - total // 2
        if self.fused and kernels.convolution_fits(self.conv.weight, self._stride, skip is None):
            reflect = self._config.pad_mode == "reflect"
            if not reflect or max(left, right) < length:
                return kernels.convolve(
                    x,
                    self.conv.weight,
                    self.conv.bias,
                    steps=steps,
                    left=left,
                    stride=self._stride,
                    dilation=self._dilation,
                    reflect=reflect,
                    elu_before=elu_before,
                    elu_after=elu_after,
                    skip=skip,
                )
        y = self.conv(_pad(elu(x) if elu_before else x, left, right, self._config.pad_mode))
        y = y if skip is None else y + skip
        return elu(y) if elu_after else y


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


class TransposedWeight(nn.Module):
    """Of a transposed convolution: `(kernel, out, in)`, as a product over all taps reads it."""

    def __init__(self, into: int, out: int, kernel: int) -> None:
        super().__init__()
        self.weight = mx.zeros((kernel, out, into))
        self.bias = mx.zeros((out,))


class ConvTranspose(nn.Module):
    """A transposed convolution with a kernel of two strides that makes `stride` steps of each.

    Attributes:
        fused: see `Conv`.
    """

    def __init__(self, config: CodecConfig, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = TransposedWeight(into, out, 2 * stride)
        self.fused = False
        # Of the overlapping stride, what is not cut off on the right is on the left.
        right = math.ceil(stride * config.trim_right_ratio) if config.causal else stride // 2
        self._left, self._stride = stride - right, stride

    def __call__(self, x: mx.array) -> mx.array:
        (B, T, into), (_, out, _) = x.shape, self.conv.weight.shape
        if self.fused and kernels.transposed_fits(self.conv.weight):
            return kernels.convolve_transposed(x, self.conv.weight, self.conv.bias, left=self._left)
        # One product for all taps.  MLX's own convolves a signal with zeros in it: `stride` times
        # the work.
        taps = x @ self.conv.weight.reshape(-1, into).T
        first, second = mx.split(taps, 2, axis=-1)
        whole = mx.pad(first, [(0, 0), (0, 1), (0, 0)]) + mx.pad(second, [(0, 0), (1, 0), (0, 0)])
        whole = whole.reshape(B, (T + 1) * self._stride, out)
        return whole[:, self._left : self._left + T * self._stride] + self.conv.bias


class Residual(nn.Module):
    """ELU, dilated convolution, ELU, 1×1 convolution, around a skip."""

    def __init__(self, config: CodecConfig, dim: int, dilation: int) -> None:
        super().__init__()
        hidden = dim // config.compress
        self.block = [
            ELU(),
            Conv(config, dim, hidden, config.residual_kernel_size, dilation=dilation),
            ELU(),
            Conv(config, hidden, dim, 1),
        ]
        if config.conv_shortcut:
            self.shortcut = Conv(config, dim, dim, 1)

    def __call__(self, x: mx.array, elu_after: bool = False) -> mx.array:
        y = self.block[1](x, elu_before=True, elu_after=True)
        skip = self.shortcut(x) if "shortcut" in self else x
        return self.block[3](y, elu_after=elu_after, skip=skip)


class LSTMLayer(nn.Module):
    """One layer of an LSTM, gates in torch's order: input, forget, cell, output.

    Attributes:
        fused: see `Conv`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.Wx = mx.zeros((4 * dim, dim))
        self.Wh = mx.zeros((4 * dim, dim))
        self.bias = mx.zeros((4 * dim,))
        self.fused = False

    def __call__(self, x: mx.array) -> mx.array:
        B, T, dim = x.shape
        # The input's share of all steps is one product; only the hidden state's is sequential.
        if self.fused and kernels.lstm_fits(B, dim):
            projected = kernels.convolve(x, self.Wx[:, None], self.bias, steps=T, left=0)
            return kernels.lstm(projected, self.Wh)
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

    def __call__(self, x: mx.array, first: int = 0, stop: int | None = None) -> mx.array:
        """Run layers `first` to `stop`; an ELU behind a residual block is part of it."""
        layers = self.layers[first:stop]
        done = False
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if not done and isinstance(layer, Residual) and isinstance(following, nn.ELU):
                x, done = layer(x, elu_after=True), True
            else:
                x, done = x if done else layer(x), False
        return x


def _encoder_layers(config: CodecConfig) -> Iterator[nn.Module]:
    dim = config.num_filters
    yield Conv(config, config.audio_channels, dim, config.kernel_size)
    for ratio in reversed(config.ratios):
        for n in range(config.num_residual_layers):
            yield Residual(config, dim, config.dilation_growth**n)
        yield ELU()
        yield Conv(config, dim, 2 * dim, 2 * ratio, ratio)
        dim *= 2
    yield LSTM(config, dim)
    yield ELU()
    yield Conv(config, dim, config.hidden_size, config.last_kernel_size)


def _decoder_layers(config: CodecConfig) -> Iterator[nn.Module]:
    dim = config.num_filters * 2 ** len(config.ratios)
    yield Conv(config, config.hidden_size, dim, config.kernel_size)
    yield LSTM(config, dim)
    for ratio in config.ratios:
        yield ELU()
        yield ConvTranspose(config, dim, dim // 2, ratio)
        dim //= 2
        for n in range(config.num_residual_layers):
            yield Residual(config, dim, config.dilation_growth**n)
    yield ELU()
    yield Conv(config, dim, config.audio_channels, config.last_kernel_size)


class Codec(nn.Module):
    """Waveform to codes and back.

    Args:
        config: its shape.
        fused: the kernels that run where they fit, those of `kernels.CODEC`.
        lookup: finds rows of codebooks; None for MLX's own way.

    Attributes:
        config: its shape.
        fused: whether a kernel runs, so that all work belongs into turns; see `turns`.
        codebooks: `(K, entries, dim)`, each of which quantizes what the ones before it left over.
    """

    def __init__(
        self,
        config: CodecConfig,
        fused: frozenset[str] = frozenset(),
        lookup: Lookup | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.fused = bool(fused & kernels.CODEC)
        self._lookup = lookup or Lookup()
        self.encoder = Stack(_encoder_layers(config))
        self.decoder = Stack(_decoder_layers(config))
        self.codebooks = mx.zeros((config.num_codebooks, config.codebook_size, config.codebook_dim))
        for module in self.modules():
            if isinstance(module, Conv | ConvTranspose):
                module.fused = kernels.CONVOLVE in fused
            elif isinstance(module, LSTMLayer):
                module.fused = kernels.LSTM in fused

    def encode(self, samples: mx.array, num_codebooks: int) -> tuple[mx.array, mx.array]:
        """Codes `(B, K, F)` int32 of samples `(B, T, 1)`, with the first `num_codebooks`.

        Returns:
            The codes, and whether the encoder's output, which they stand for, is finite.
        """
        residual = self.encoder(samples)
        finite, codes = mx.isfinite(residual).all(), []
        for k in range(num_codebooks):
            codebook = entry(self.codebooks, k)
            # |x - e|² without |x|², which is the same for all entries.
            distance = mx.square(codebook).sum(axis=-1) - 2 * (residual @ codebook.T)
            codes.append(mx.argmin(distance, axis=-1).astype(mx.int32))
            residual = residual - self._lookup(codebook, codes[-1])
        return mx.stack(codes, axis=1), finite

    def remember(self, codes: mx.array) -> mx.array:
        """The output `(B, F, dim)` of the decoder's LSTM for codes `(B, K, F)`."""
        frames = mx.zeros(())
        for k in range(codes.shape[1]):
            frames = frames + self._lookup(entry(self.codebooks, k), codes[:, k])
        return self.decoder(frames, stop=AFTER_LSTM)

    def synthesize(self, hidden: mx.array) -> mx.array:
        """Samples `(B, T, 1)` of what `remember` returns: convolutions, which see little around."""
        return self.decoder(hidden, first=AFTER_LSTM)
