"""EnCodec (https://arxiv.org/abs/2210.13438) as graphs, always in float32.

Convolutions see a few frames around each sample, so they run over pieces of the music, row by row:
the memory they need grows neither with its length nor with the takes.  The LSTMs between them run
over all of it, of several rows at once.  Numbers of layers are those of the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ...checkpoints.config import CodecConfig
from ...checkpoints.tensors import Tensors
from ..base import check_finite
from ..pieces import pieces, widest
from . import graph
from .graph import Output
from .runtime import compiled, give_back, ops, ov, page_out, run
from .weights import finite

FRAMES_HEARD = 150
FRAMES_PLAYED = 50
"""Frames of a piece of a prompt, and of the result, whose end is when a request takes most memory.

Shorter ones compute more twice, longer ones take more memory and gain nothing.
"""

MAX_ROWS = 8
"""Rows that the LSTM runs over at once: each step reads its weights once for all of them."""

FRAMES_REMEMBERED = 24_000
"""Frames that the LSTM runs over at once, of all rows together; its output takes 0.1 GB."""

HALVES = {"analysis": "encoder", "encoded": "encoder", "decoded": "decoder", "synthesis": "decoder"}
"""The half of the codec that each of its graphs belongs to."""

Key = tuple[str, int, int | None]
"""A part of the codec, its rows, and its length, None for any."""

MAX_MODELS = 8
"""Compiled graphs of a half at most: one, and one for each power of two of rows, serve every length
but odd and very short ones."""

GATES = (1, 0, 2, 3)
"""OpenVINO's forget, input, cell, output among torch's input, forget, cell, output."""


class Codec:
    """Waveform to codes and back.

    Args:
        config: its shape.
        tensors: its weights.
        threads: how many to use; None for as many as there are cores.

    Attributes:
        models: the compiled graphs in memory, by half, batch and length.
    """

    def __init__(self, config: CodecConfig, tensors: Tensors, threads: int | None) -> None:
        self._config, self._layers = config, Layers(config, tensors)
        self._codebooks = [
            finite(tensors, f"quantizer.layers.{k}.codebook.embed")
            for k in range(config.num_codebooks)
        ]
        self._threads = threads
        self.models: dict[Key, Any] = {}

    def encode(self, samples: np.ndarray, num_codebooks: int) -> np.ndarray:
        """Codes `(B, K, F)` int32 of samples `(B, T)`, with the first `num_codebooks`."""
        hop, length = self._config.hop_length, samples.shape[1]
        if samples.size == 0:
            return np.zeros((len(samples), num_codebooks, -(-length // hop)), np.int32)
        found = []
        for piece in pieces(-(-length // hop), FRAMES_HEARD, self._config):
            part = samples[:, None, piece.first * hop : piece.last * hop]
            # Only whole frames that are longer than every kernel go through one and the same graph.
            plain = part.shape[2] % hop == 0 and piece.last - piece.first > widest(self._config)
            key = ("analysis", 1, None if plain else part.shape[2])
            rows = [self._run(key, row[None])[:, :, piece.within(1)] for row in part]
            found.append(np.concatenate(rows))
        heard = np.concatenate(found, axis=2)
        encoded = [self._whole("encoded", heard[rows]) for rows in _together(*heard.shape[::2])]
        # (B, F, D)
        values = np.concatenate(encoded).transpose(0, 2, 1)
        residual = check_finite(values, "encoder's values", fixed=True)
        codes = []
        for codebook in self._codebooks[:num_codebooks]:
            # |x - e|² without |x|², which is the same for all entries.
            distance = np.square(codebook).sum(axis=-1) - 2 * (residual @ codebook.T)
            codes.append(distance.argmin(axis=-1).astype(np.int32))
            residual = residual - codebook[codes[-1]]
        give_back()
        return np.stack(codes, axis=1)

    def decode(
        self, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """Samples `(B, T)` of codes `(B, K, F)`; `advance` hears of the rows that are done."""
        (B, K, F), hop = codes.shape, self._config.hop_length
        found = np.empty((B, F * hop), np.float32)
        for rows in _together(B, F) if F else ():
            embedded = sum(self._codebooks[k][codes[rows, k]] for k in range(K))
            decoded = self._whole("decoded", np.asarray(embedded).transpose(0, 2, 1))
            for n, row in enumerate(decoded, rows.start):
                for piece in pieces(F, FRAMES_PLAYED, self._config):
                    part = row[None, :, piece.first : piece.last]
                    plain = part.shape[2] > widest(self._config)
                    key = ("synthesis", 1, None if plain else part.shape[2])
                    samples = self._run(key, part)[0, 0, piece.within(hop)]
                    found[n, piece.start * hop : piece.stop * hop] = samples
                advance(n + 1)
        give_back()
        return found

    def release(self) -> None:
        """Release the compiled graphs: the language model is about to need the memory."""
        self.models.clear()
        give_back()

    def _whole(self, part: str, x: np.ndarray) -> np.ndarray:
        """A part that runs over whole rows `(B, C, F)`, which are filled up to a power of two."""
        plain = x.shape[2] > widest(self._config)
        batch = 1 << (len(x) - 1).bit_length()
        whole = np.concatenate([x, np.zeros((batch - len(x), *x.shape[1:]), x.dtype)])
        return self._run((part, batch, None if plain else x.shape[2]), whole)[: len(x)]

    def _run(self, key: Key, x: np.ndarray) -> np.ndarray:
        """What a part of the codec makes of `x`.

        The first time it packs its weights; those that it was read from are then let go.
        """
        new = key not in self.models
        found = run(self._model(*key), x)[0]
        if new:
            page_out()
            give_back()
        return found

    def _model(self, part: str, batch: int, length: int | None) -> Any:
        """A part of the codec, compiled.

        Only one half of the codec is in memory at a time: each takes as much memory as the language
        model at 4 bits, and a request changes from one to the other once.
        """
        key = (part, batch, length)
        model = self.models.get(key)
        if model is None:
            half, full = HALVES[part], len(self.models) >= MAX_MODELS
            for other in [other for other in list(self.models) if full or HALVES[other[0]] != half]:
                self.models.pop(other, None)
            give_back()
            model = compiled(getattr(self._layers, part)(batch, length), self._threads)
            self.models[key] = model
            give_back()  # the graph that it was compiled from
        return model


def _together(rows: int, frames: int) -> Iterator[slice]:
    """The rows that the LSTM runs over at a time."""
    most = max(1, min(MAX_ROWS, FRAMES_REMEMBERED // frames))
    for first in range(0, rows, most):
        yield slice(first, min(rows, first + most))


class Layers:
    """The graphs of the codec.

    Each is built for a batch and for a length: of any length that is a whole number of frames and
    wider than any kernel (None), or of just one.
    """

    def __init__(self, config: CodecConfig, tensors: Tensors) -> None:
        self._config, self._tensors = config, tensors

    def analysis(self, batch: int, length: int | None) -> ov.Model:
        """Samples `(B, 1, T)` to what the encoder's LSTM takes, `(B, C, F)`."""
        c = self._config
        inputs, x = self._start(batch, c.audio_channels, length)
        x = self._conv(x, "encoder.layers.0")
        n = 1
        for ratio in reversed(c.ratios):
            for i in range(c.num_residual_layers):
                x = self._residual(x, f"encoder.layers.{n}", c.dilation_growth**i)
                n += 1
            x = self._conv(_elu(x), f"encoder.layers.{n + 1}", ratio)
            n += 2
        return graph.model([_flat(x)], inputs)

    def encoded(self, batch: int, length: int | None) -> ov.Model:
        """From there to the encoder's output `(B, D, F)`."""
        c = self._config
        n = 1 + len(c.ratios) * (c.num_residual_layers + 2)
        inputs, x = self._start(batch, c.num_filters * 2 ** len(c.ratios), length)
        x = self._lstm(x, f"encoder.layers.{n}", batch)
        return graph.model([_flat(self._conv(_elu(x), f"encoder.layers.{n + 2}"))], inputs)

    def decoded(self, batch: int, length: int | None) -> ov.Model:
        """The sum of a frame's codebook entries `(B, D, F)` to the LSTM's output `(B, C, F)`."""
        inputs, x = self._start(batch, self._config.codebook_dim, length)
        x = self._conv(x, "decoder.layers.0")
        return graph.model([_flat(self._lstm(x, "decoder.layers.1", batch))], inputs)

    def synthesis(self, batch: int, length: int | None) -> ov.Model:
        """From there to samples `(B, 1, T)`."""
        c = self._config
        inputs, x = self._start(batch, c.num_filters * 2 ** len(c.ratios), length)
        n = 2
        for ratio in c.ratios:
            x = self._transposed(_elu(x), f"decoder.layers.{n + 1}", ratio)
            n += 2
            for i in range(c.num_residual_layers):
                x = self._residual(x, f"decoder.layers.{n}", c.dilation_growth**i)
                n += 1
        return graph.model([_flat(self._conv(_elu(x), f"decoder.layers.{n + 1}"))], inputs)

    def _start(self, batch: int, channels: int, length: int | None) -> tuple[list[Output], Signal]:
        x = graph.parameter("x", (batch, channels, -1 if length is None else length))
        return [x], Signal(_tall(x), length)

    def _read(self, name: str) -> np.ndarray:
        return finite(self._tensors, name)

    def _weights(self, name: str) -> tuple[np.ndarray, Output]:
        """A convolution's weight as torch has it, and its bias `(1, out, 1, 1)`."""
        bias = self._read(f"{name}.conv.bias")
        return self._read(f"{name}.conv.weight"), graph.constant(bias[None, :, None, None])

    def _conv(self, x: Signal, name: str, stride: int = 1, dilation: int = 1) -> Signal:
        """A convolution that keeps `ceil(T / stride)` steps, padded as the configuration says."""
        weight, bias = self._weights(name)
        total = (weight.shape[2] - 1) * dilation + 1 - stride
        # The last step may lack samples; without them its frame would be lost.
        short = 0 if x.length is None else -x.length % stride
        right = short if self._config.causal else total // 2 + short
        left = total if self._config.causal else total - total // 2
        padded = self._padded(x, left, right)
        y = _convolution(padded, weight, stride=stride, dilation=dilation)
        return Signal(ops.add(y, bias), None if x.length is None else -(-x.length // stride))

    def _padded(self, x: Signal, left: int, right: int) -> Output:
        """Pad time; a reflection longer than the signal reflects zeros behind it, as EnCodec."""
        if left == right == 0:
            return x.values

        def pad(values: Output, before: int, after: int, mode: str) -> Output:
            return ops.pad(
                values,
                graph.integers(0, 0, 0, before),
                graph.integers(0, 0, 0, after),
                mode,
                graph.constant(np.float32(0)),
            )

        if self._config.pad_mode != "reflect":
            return pad(x.values, left, right, "constant")
        behind = 0 if x.length is None else max(0, max(left, right) - x.length + 1)
        if behind == 0:
            return pad(x.values, left, right, "reflect")
        assert x.length is not None  # noqa: S101  # or nothing lay behind it
        values = pad(pad(x.values, 0, behind, "constant"), left, right, "reflect")
        stop = left + x.length + right
        axis = graph.integers(3)
        return ops.slice(values, graph.integers(0), graph.integers(stop), graph.integers(1), axis)

    def _transposed(self, x: Signal, name: str, stride: int) -> Signal:
        """A transposed convolution that makes exactly `stride` steps of each.

        OpenVINO's own has no fast kernel.  Each of the `stride` steps is a plain convolution over
        the steps before it, so they are channels of one, laid out one after the other.
        """
        weight, bias = self._weights(name)
        into, out, kernel = weight.shape
        total = kernel - stride
        ratio = self._config.trim_right_ratio
        right = math.ceil(total * ratio) if self._config.causal else total // 2
        taps = -(-kernel // stride)
        whole = np.zeros((into, out, taps * stride), np.float32)
        whole[:, :, :kernel] = weight
        steps = whole.reshape(into, out, taps, stride)[:, :, ::-1]  # the latest input comes last
        channels = steps.transpose(3, 1, 0, 2).reshape(stride * out, into, taps)
        y = ops.squeeze(_convolution(x.values, channels, around=taps - 1), graph.integers(2))
        y = ops.depth_to_space(y, "blocks_first", stride)  # (B, out, T * stride)
        surplus = taps * stride - kernel  # of the last tap, which is no step at all
        y = ops.slice(
            y,
            graph.integers(total - right),
            graph.integers(-(right + surplus) or 2**31),
            graph.integers(1),
            graph.integers(2),
        )
        y = ops.add(_tall(y), bias)
        return Signal(y, None if x.length is None else x.length * stride)

    def _residual(self, x: Signal, name: str, dilation: int) -> Signal:
        """ELU, dilated convolution, ELU, 1×1 convolution, around a skip."""
        y = self._conv(_elu(x), f"{name}.block.1", dilation=dilation)
        y = self._conv(_elu(y), f"{name}.block.3")
        skip = self._conv(x, f"{name}.shortcut") if self._config.conv_shortcut else x
        return Signal(ops.add(y.values, skip.values), x.length)

    def _lstm(self, x: Signal, name: str, batch: int) -> Signal:
        """Layers of an LSTM around a skip."""
        steps = turned(_flat(x))
        y = steps
        for n in range(self._config.num_lstm_layers):
            part = partial(self._gates, f"{name}.lstm", n)
            dim = part("weight_hh").shape[1]
            zeros = graph.constant(np.zeros((batch, 1, dim), np.float32))
            length = ops.gather(ops.shape_of(y), graph.integers(1), graph.integer(0))
            sequence = ops.lstm_sequence(
                y,
                zeros,
                zeros,
                ops.broadcast(length, graph.integers(batch)),
                graph.constant(part("weight_ih")[None]),
                graph.constant(part("weight_hh")[None]),
                graph.constant((part("bias_ih") + part("bias_hh"))[None]),
                dim,
                "forward",
            )
            y = ops.squeeze(sequence.output(0), graph.integers(1))
        return Signal(_tall(turned(ops.add(steps, y))), x.length)

    def _gates(self, name: str, layer: int, part: str) -> np.ndarray:
        """A weight or a bias of an LSTM with its gates in OpenVINO's order."""
        whole = self._read(f"{name}.{part}_l{layer}")
        gates = whole.reshape(4, -1, *whole.shape[1:])
        return gates[list(GATES)].reshape(whole.shape)


class Signal:
    """Values `(B, C, 1, T)` in a graph, and T where it is known.

    Of four axes, OpenVINO pads what its convolutions hand on as it lies; three it lays out anew.
    """

    def __init__(self, values: Output, length: int | None) -> None:
        self.values, self.length = values, length


def turned(x: Output) -> Output:
    """`(B, C, T)` to `(B, T, C)`, and back."""
    return ops.transpose(x, graph.integers(0, 2, 1))


def _tall(x: Output) -> Output:
    """`(B, C, T)` to `(B, C, 1, T)`."""
    return ops.unsqueeze(x, graph.integers(2))


def _flat(x: Signal) -> Output:
    """`(B, C, T)` of a signal."""
    return ops.squeeze(x.values, graph.integers(2))


def _convolution(
    x: Output, weight: np.ndarray, stride: int = 1, dilation: int = 1, around: int = 0
) -> Output:
    """Convolve `(B, C, 1, T)`, with `around` zeros on each side, with `weight` `(out, C, k)`."""
    return ops.convolution(
        x, graph.constant(weight[:, :, None]), [1, stride], [0, around], [0, around], [1, dilation]
    )


def _elu(x: Signal) -> Signal:
    return Signal(ops.elu(x.values, 1.0), x.length)
