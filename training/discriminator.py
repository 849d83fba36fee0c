"""Small discriminators on complex spectrograms: they hear what the spectral loss forgives."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over (frames, bins) of one STFT; patches of the picture are judged apart."""

    def __init__(self, window: int, channels: int):
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        widths = [2, channels, channels, channels, channels]
        strides = [(1, 2), (1, 2), (1, 2), (1, 1)]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (3, 9) if i < 3 else (3, 3), strides[i], padding=(1, 4 if i < 3 else 1))
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.judge = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Audio (B, T) float32 to the layers' outputs, the judgement last."""
        size = len(self.window)
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(audio, size, size // 4, window=self.window, return_complex=True)
            # Compressed magnitudes, so that quiet partials count.
            x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)
            x = x * (x.square().sum(1, True) + 1e-4).pow(-0.35)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.judge(x)]


class Discriminators(nn.Module):
    """One discriminator a window length."""

    def __init__(self, windows: tuple[int, ...] = (512, 1024, 2048), channels: int = 24):
        super().__init__()
        self.parts = nn.ModuleList(SpectrogramDiscriminator(w, channels) for w in windows)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Audio (B, T) to every part's features."""
        return [part(audio) for part in self.parts]


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss: real above 1, fake below -1."""
    terms = [
        nn.functional.relu(1 - a[-1].float()).mean() + nn.functional.relu(1 + b[-1].float()).mean()
        for a, b in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def generator_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """The judgement that the generator wants up, and the relative distance of the features."""
    judged = torch.stack([-b[-1].float().mean() for b in fake]).mean()
    matching = [
        (x.float() - y.float()).abs().mean() / (x.float().abs().mean() + 1e-4)
        for a, b in zip(real, fake, strict=True)
        for x, y in zip(a[:-1], b[:-1], strict=True)
    ]
    return judged, torch.stack(matching).mean()
