"""How far two pieces of audio are apart, for training and for the figures."""

import torch
from torch import Tensor, nn

RATE = 32_000
# Window lengths (samples) and mel bands: the five of the figures, and a long one for the harmony.
SCALES = ((128, 10), (256, 20), (512, 40), (1024, 80), (2048, 160))
LONG = (4096, 256)


def mel_filters(window: int, bands: int, rate: int = RATE) -> Tensor:
    """Triangles (bins, bands) on the mel scale (HTK's formula), each with unit sum.

    Bands narrower than a bin take the bin that they fall on.
    """
    bins = window // 2 + 1
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, float(top), bands + 2) / 2595) - 1)
    edges = edges / (rate / 2) * (bins - 1)
    at = torch.arange(bins)[:, None].float()
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    up = (at - low) / (mid - low).clamp_min(1.0)
    down = (high - at) / (high - mid).clamp_min(1.0)
    filters = torch.minimum(up, down).clamp_min(0)
    nearest = nn.functional.one_hot(mid.round().long(), bins).T.float()
    filters = torch.where(filters.sum(0) > 0.5, filters, nearest)
    return filters / filters.sum(0)


def magnitudes(
    audio: Tensor, window: Tensor, hop: int | None = None, center: bool = True
) -> Tensor:
    """STFT magnitudes (B, bins, frames); a sine of 1 gives ~1.

    The hop is a quarter window where none is given; with `center`, the ends are reflected.
    """
    size = len(window)
    spectrum = torch.stft(
        audio, size, hop or size // 4, window=window, center=center, return_complex=True
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return (power + 1e-12).sqrt() * (2 / window.sum())


class SpectralLoss(nn.Module):
    """Distance of log mel bands, log and linear magnitudes over several window lengths."""

    def __init__(self, long: bool = True):
        super().__init__()
        self.scales = (*SCALES, LONG) if long else SCALES
        for size, bands in self.scales:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            self.register_buffer(f"filters_{size}", mel_filters(size, bands), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Two means over the scales, of audio (B, T) float32.

        The first is the mel distance: mean absolute difference of log10 mel magnitudes, floor
        1e-5. The second is the relative distance of linear magnitudes, which hears the loud
        partials that make harmony: |difference| summed over |target| summed.
        """
        mel, linear = [], []
        for size, _ in self.scales:
            window = getattr(self, f"window_{size}")
            filters = getattr(self, f"filters_{size}").T
            a, b = magnitudes(output, window), magnitudes(target, window)
            mel_a, mel_b = ((filters @ x).clamp_min(1e-5).log10() for x in (a, b))
            mel.append((mel_a - mel_b).abs().mean())
            linear.append((a - b).abs().sum((1, 2)) / (b.sum((1, 2)) + 1e-4 * b[0].numel()))
        return torch.stack(mel).mean(), torch.stack(linear).mean()

    def onsets(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean absolute difference of how strongly something begins, every 10 ms of audio (B, T).

        That is the mean rise of the log mel bands, quiet ones too: a noise that flickers between
        the notes hides where they begin.
        """
        window, filters = self.window_2048, self.filters_2048.T
        a, b = (
            (filters @ magnitudes(audio, window, hop=320)).clamp_min(1e-5).log10().diff(dim=-1)
            for audio in (output, target)
        )
        return (a.relu().mean(1) - b.relu().mean(1)).abs().mean()


def si_sdr(output: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, (B,), of audio (B, T)."""
    output, target = output - output.mean(1, True), target - target.mean(1, True)
    scale = (output * target).sum(1, True) / (target.square().sum(1, True) + 1e-9)
    wanted = scale * target
    rest = (output - wanted).square().sum(1)
    return 10 * torch.log10((wanted.square().sum(1) + 1e-9) / (rest + 1e-9))
