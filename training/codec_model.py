"""The codec: EnCodec as its 32 kHz checkpoint has it, smaller, laid out for fast training.

The arithmetic and the parameter names are those of `transformers`' `EncodecModel`; what differs is
that paddings are plain integers, so that nothing waits for the device and a step can be captured,
and that weight norm is left out (export writes each weight as norm and direction).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class CodecShape:
    """Sizes of the codec; everything but `filters` is as in the 32 kHz EnCodec."""

    filters: int = 20
    strides: tuple[int, ...] = (8, 5, 4, 4)
    dim: int = 128
    codebooks: int = 4
    entries: int = 2048
    rate: int = 32_000

    @property
    def hop(self) -> int:
        """Samples a frame: 640, that is 50 frames a second."""
        hop = 1
        for stride in self.strides:
            hop *= stride
        return hop


def reflect(x: Tensor, left: int, right: int) -> Tensor:
    """Reflect padding of (B, C, 1, T) along T, in whatever memory layout `x` has."""
    parts = [x]
    if left:
        parts.insert(0, x[..., 1 : left + 1].flip(-1))
    if right:
        parts.append(x[..., -right - 1 : -1].flip(-1))
    return torch.cat(parts, -1) if len(parts) > 1 else x


def planar(conv: nn.Module) -> Tensor:
    """A 1-d convolution's weight as a 2-d one, channels last: cuDNN then keeps that layout."""
    return conv.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class Conv(nn.Module):
    """A convolution along T with the reflect padding that keeps T / stride frames."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)
        total = kernel - stride
        self.right = total // 2
        self.left = total - self.right
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, 1, T) to (B, outputs, 1, T / stride)."""
        x = reflect(x, self.left, self.right)
        return nn.functional.conv2d(x, planar(self.conv), self.conv.bias, (1, self.stride))


class Transposed(nn.Module):
    """A transposed convolution, trimmed to T · stride samples."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride)
        self.stride = stride
        total = kernel - stride
        self.right = total // 2
        self.left = total - self.right

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, 1, T) to (B, outputs, 1, T · stride)."""
        weight = planar(self.conv)
        y = nn.functional.conv_transpose2d(x, weight, self.conv.bias, (1, self.stride))
        return y[..., self.left : y.shape[-1] - self.right]


class Recurrence(nn.Module):
    """Two LSTM layers along T, with a skip around both."""

    def __init__(self, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) to the same."""
        # Autocast would run it in float16, whatever its type, and gradients would leave its range.
        with torch.autocast(x.device.type, enabled=False):
            steps = x.squeeze(2).permute(2, 0, 1).float().contiguous()
            steps = self.lstm(steps)[0] + steps
        return steps.permute(1, 2, 0).unsqueeze(2)


class Residual(nn.Module):
    """ELU, convolution of 3 to half the channels, ELU, convolution of 1 back, and a skip."""

    def __init__(self, dim: int):
        super().__init__()
        first, second = Conv(dim, dim // 2, 3), Conv(dim // 2, dim, 1)
        self.block = nn.ModuleList([nn.ELU(), first, nn.ELU(), second])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) to the same."""
        y = x
        for layer in self.block:
            y = layer(y)
        return x + y


class Stack(nn.Module):
    """Layers in a list called `layers`, as the checkpoint names them."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Runs one layer after the other."""
        for layer in self.layers:
            x = layer(x)
        return x


def encoder(shape: CodecShape) -> Stack:
    """Audio (B, 1, 1, T · hop) to latents (B, dim, 1, T)."""
    width = shape.filters
    layers: list[nn.Module] = [Conv(1, width, 7)]
    for stride in reversed(shape.strides):
        layers += [Residual(width), nn.ELU(), Conv(width, 2 * width, 2 * stride, stride)]
        width *= 2
    return Stack([*layers, Recurrence(width), nn.ELU(), Conv(width, shape.dim, 7)])


def decoder(shape: CodecShape) -> Stack:
    """Latents (B, dim, 1, T) to audio (B, 1, 1, T · hop)."""
    width = shape.filters * 2 ** len(shape.strides)
    layers: list[nn.Module] = [Conv(shape.dim, width, 7), Recurrence(width)]
    for stride in shape.strides:
        layers += [nn.ELU(), Transposed(width, width // 2, 2 * stride, stride)]
        width //= 2
        layers += [Residual(width)]
    return Stack([*layers, nn.ELU(), Conv(width, 1, 7)])


class Codebook(nn.Module):
    """One codebook: nearest entry in, moving averages of what chose it out.

    `usage` counts choices a batch (an average over steps); an entry whose usage falls under a
    fifth of the mean is dead and moves onto a random vector of the batch.
    """

    DECAY = 0.99
    DEAD = 0.2

    def __init__(self, entries: int, dim: int):
        super().__init__()
        self.register_buffer("embed", torch.zeros(entries, dim))
        self.register_buffer("total", torch.zeros(entries, dim))
        self.register_buffer("usage", torch.zeros(entries))

    def nearest(self, x: Tensor) -> Tensor:
        """Indices (N,) of the entries nearest to x (N, dim)."""
        distance = self.embed.square().sum(1) - 2 * x @ self.embed.T
        return distance.argmin(1)

    @torch.no_grad()
    def initialise(self, x: Tensor, rounds: int = 10) -> None:
        """K-means on x (N, dim), N well over the number of entries."""
        self.embed.copy_(x[torch.randperm(len(x), device=x.device)[: len(self.embed)]])
        for _ in range(rounds):
            index = self.nearest(x)
            count = torch.bincount(index, minlength=len(self.embed)).float()
            total = torch.zeros_like(self.embed).index_add_(0, index, x)
            self.embed.copy_(torch.where(count[:, None] > 0, total / count[:, None], self.embed))
        self.usage.fill_(1.0)
        self.total.copy_(self.embed)

    @torch.no_grad()
    def learn(self, x: Tensor, index: Tensor) -> None:
        """Moves the entries towards the vectors x (N, dim) that chose them; revives the dead."""
        count = torch.zeros_like(self.usage).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.total).index_add_(0, index, x)
        self.usage.lerp_(count, 1 - self.DECAY)
        self.total.lerp_(total, 1 - self.DECAY)
        mean = len(x) / len(self.usage)
        dead = self.usage < self.DEAD * mean
        chosen = x[torch.randint(len(x), self.usage.shape, device=x.device)]
        self.usage.copy_(torch.where(dead, mean, self.usage))
        self.total.copy_(torch.where(dead[:, None], chosen * mean, self.total))
        self.embed.copy_(self.total / self.usage.clamp_min(1e-4)[:, None])


class Quantized(NamedTuple):
    """What the quantizer made of latents (B, dim, 1, T).

    `latents` (B, dim, 1, T) is what the decoder hears, `codes` (B, K, T) what is stored;
    `partial[k]` (B, T, dim) is the sum of the codebooks up to k.
    """

    latents: Tensor
    commitment: Tensor
    codes: Tensor
    partial: list[Tensor]


class Quantizer(nn.Module):
    """Codebooks one after the other, each on what the ones before left over."""

    def __init__(self, shape: CodecShape):
        super().__init__()
        self.codebooks = nn.ModuleList(
            Codebook(shape.entries, shape.dim) for _ in range(shape.codebooks)
        )

    def forward(self, latents: Tensor, learn: bool, bypass: float = 0.0) -> "Quantized":
        """Quantizes latents (B, dim, 1, T) float32; gradients pass straight through.

        The commitment is relative to the latents' variance, so that it says nothing about their
        scale. A share `bypass` of the rows stays as it is, which keeps the latents rich.
        """
        B, dim, _, T = latents.shape
        x = latents.squeeze(2).permute(0, 2, 1).reshape(-1, dim)
        left, codes, partial = x.detach(), [], []
        quantized = torch.zeros_like(left)
        for codebook in self.codebooks:
            index = codebook.nearest(left)
            if learn:
                codebook.learn(left, index)
            entry = codebook.embed[index]
            quantized, left = quantized + entry, left - entry
            codes.append(index.view(B, T))
            partial.append((x + (quantized - x).detach()).view(B, T, dim))
        variance = x.detach().var(0).mean() + 1e-6
        commitment = (x - quantized).square().mean() / variance
        change = (quantized - x).detach().view(B, T, dim)
        if bypass:
            change = change * (torch.rand(B, 1, 1, device=x.device) >= bypass)
        back = (x.view(B, T, dim) + change).permute(0, 2, 1).unsqueeze(2)
        return Quantized(back, commitment, torch.stack(codes, 1), partial)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, K, T) to latents (B, dim, 1, T)."""
        total = sum(book.embed[codes[:, k]] for k, book in enumerate(self.codebooks))
        assert isinstance(total, Tensor)
        return total.permute(0, 2, 1).unsqueeze(2)

    @torch.no_grad()
    def initialise(self, latents: Tensor) -> None:
        """Every codebook by k-means on what the ones before leave of latents (N, dim)."""
        for codebook in self.codebooks:
            codebook.initialise(latents)
            latents = latents - codebook.embed[codebook.nearest(latents)]


class Codec(nn.Module):
    """Encoder, quantizer and decoder; audio is (B, T · hop) float32 in [-1, 1]."""

    def __init__(self, shape: CodecShape = CodecShape()):
        super().__init__()
        self.shape = shape
        self.encoder = encoder(shape)
        self.decoder = decoder(shape)
        self.quantizer = Quantizer(shape)

    def latents(self, audio: Tensor) -> Tensor:
        """Audio (B, T · hop) to latents (B, dim, 1, T)."""
        return self.encoder(audio[:, None, None])

    def sound(self, latents: Tensor) -> Tensor:
        """Latents (B, dim, 1, T) to audio (B, T · hop)."""
        return self.decoder(latents)[:, 0, 0]

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, T · hop) to codes (B, K, T)."""
        return self.quantizer(self.latents(audio).float(), learn=False).codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, K, T) to audio (B, T · hop)."""
        return self.sound(self.quantizer.decode(codes)).float()
