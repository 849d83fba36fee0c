"""What a listener hears in a frame, whatever its phase: the targets of the first codebooks.

A codec that is asked only for the sound spends its first codebook on the phase of the bass, which
turns by another amount in every frame and bar; a language model then learns to turn phases and
loses the beat. So the first codebooks are also asked for what repeats when music repeats: the
spectrum's envelope, and how loud each semitone is. (SpeechTokenizer, arXiv 2308.16692, and Mimi,
arXiv 2410.00037, teach their first codebook the features of a speech model for the same reason.)
"""

import torch
from torch import Tensor, nn

from training.losses import RATE, magnitudes, mel_filters

HOP = 640
SHORT, BANDS = 1024, 48  # window and mel bands of the envelope
LONG = 4096  # window of the semitones: bins of 7.8 Hz, a semitone at C3
LOWEST, SEMITONES = 48, 60  # MIDI pitches C3 to B7
FLOOR = 1e-4


def semitone_filters(window: int) -> Tensor:
    """Triangles (bins, SEMITONES) of unit sum, each reaching to the semitones beside it."""
    pitches = torch.arange(LOWEST - 1, LOWEST + SEMITONES + 1)
    edges = 440 * 2 ** ((pitches - 69) / 12) / RATE * window
    at = torch.arange(window // 2 + 1)[:, None].float()
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    up, down = (at - low) / (mid - low), (high - at) / (high - mid)
    filters = torch.minimum(up, down).clamp_min(0)
    return filters / filters.sum(0)


class Hearing(nn.Module):
    """Audio (B, T · 640) to features (B, T, size): log10 magnitudes, one row a codec frame."""

    size = BANDS + SEMITONES

    def __init__(self) -> None:
        super().__init__()
        for name, filters in (
            (SHORT, mel_filters(SHORT, BANDS)),
            (LONG, semitone_filters(LONG)),
        ):
            self.register_buffer(f"window_{name}", torch.hann_window(name), persistent=False)
            self.register_buffer(f"filters_{name}", filters.T.contiguous(), persistent=False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Each window is centred on its frame; the ends are reflected."""
        found = []
        for size in (SHORT, LONG):
            edge = (size - HOP) // 2
            padded = nn.functional.pad(audio[:, None], (edge, edge), mode="reflect")[:, 0]
            window = getattr(self, f"window_{size}")
            bins = magnitudes(padded, window, hop=HOP, center=False)
            found.append((getattr(self, f"filters_{size}") @ bins).clamp_min(FLOOR).log10())
        return torch.cat(found, 1).transpose(1, 2)


def unheard(guess: Tensor, heard: Tensor) -> Tensor:
    """Share of the features' variance that a guess (B, T, size) of their z-scores leaves."""
    mean, spread = heard.mean((0, 1)), heard.std((0, 1)) + 0.03
    return (guess - (heard - mean) / spread).square().mean()
