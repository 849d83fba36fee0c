"""What `listen` hears, of many pieces at once, on whatever device they lie.

The pulse, the tempo, the loudness and the silences are librosa's to a few digits; the pitch classes
are its constant-Q transform's, with drums taken out by a median over time rather than by
separation, which would cost a hundred times as much.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from training.theory import PROFILES

RATE = 32_000
HOP, WINDOW = 320, 2048  # of the onset strength
LAGS = slice(25, 200)  # 0.25 to 2 s
OCTAVES, BINS, CQT_HOP = 7, 36, 2048
TEMPO_WINDOW, TEMPO_HOP = 800, 8
AT_ONCE = {"cuda": 128, "cpu": 8}  # pieces, as much as memory holds


@cache
def _mel(bands: int, device: torch.device) -> Tensor:
    """Triangles (bands, bins) on Slaney's mel scale: linear to 1 kHz, then 27 a factor of 6.4."""
    step = 200 / 3
    top = 1000 / step + np.log(RATE / 2 / 1000) / (np.log(6.4) / 27)
    mels = np.linspace(0, top, bands + 2)
    high = mels - 1000 / step
    edges = np.where(high < 0, mels * step, 1000 * np.exp(high * np.log(6.4) / 27))[:, None]
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(up, down)) * 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(filters).float().to(device)


def mel_power(audio: Tensor, bands: int, hop: int) -> Tensor:
    """Power in mel bands (B, bands, frames) of (B, samples)."""
    window = torch.hann_window(WINDOW, device=audio.device)
    bins = torch.stft(
        audio, WINDOW, hop, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return _mel(bands, audio.device) @ bins.abs().square()


def onset_strength(audio: Tensor) -> Tensor:
    """How strongly something begins, every 10 ms: (B, frames) of (B, samples)."""
    level = 10 * mel_power(audio, 128, HOP).clamp_min(1e-10).log10()
    level = level.maximum(level.amax((1, 2), keepdim=True) - 80)
    rise = level.diff(dim=2).clamp_min(0).mean(1)
    late = 1 + WINDOW // (2 * HOP)
    return pad(rise, (late, 0))[:, : level.shape[2]]


def autocorrelation(strength: Tensor, lags: int = 260) -> Tensor:
    """Of onset strengths (B, frames) without their mean, 1 at lag 0: (B, lags)."""
    strength = strength - strength.mean(1, keepdim=True)
    size = 2 * strength.shape[1]
    found = torch.fft.irfft(torch.fft.rfft(strength, size).abs().square(), size)[:, :lags]
    return found / (found[:, :1] + 1e-9)


def best_lag(strength: Tensor) -> Tensor:
    """The lag (B,) of 0.25 to 2 s at which the autocorrelation peaks."""
    return LAGS.start + autocorrelation(strength)[:, LAGS].argmax(1)


def nearest_pulse(lag: Tensor, strength: Tensor, within: float = 0.04) -> tuple[Tensor, Tensor]:
    """The autocorrelation's best (B,) within `within` of a lag (B,), and the lag (B,) it is at."""
    found = autocorrelation(strength)
    reach = (lag * within).round().clamp_min(1)
    at = torch.arange(found.shape[1], device=found.device)
    near = (at - lag[:, None]).abs() <= reach[:, None]
    best = found.masked_fill(~near, -1.0).max(1)
    return best.values, best.indices


def pulse_kept(lag: Tensor, strength: Tensor, within: float = 0.04) -> Tensor:
    """The autocorrelation (B,) of onset strengths at its best within `within` of a lag (B,)."""
    return nearest_pulse(lag, strength, within)[0]


def pulse_by_time(lag: Tensor, strength: Tensor, enough: float) -> Tensor:
    """What each moment adds to `pulse_kept`, (B, frames): in all, what that exceeds `enough` by.

    What begins one lag after something of its kind adds to it; what begins alone takes away.
    """
    lag = nearest_pulse(lag, strength)[1][:, None]
    strength = strength - strength.mean(1, keepdim=True)
    at = torch.arange(strength.shape[1], device=strength.device) - lag
    before = strength.gather(1, at.clamp_min(0)) * (at >= 0)
    power = strength.square().sum(1, keepdim=True) + 1e-9
    return strength * (before - enough * strength) / power


def tempo(strength: Tensor) -> Tensor:
    """Beats a minute (B,) of onset strengths: the peak of the mean tempogram, prior at 120."""
    half = TEMPO_WINDOW // 2
    ramp = torch.linspace(0, 1, half + 1, device=strength.device)[:-1]
    padded = torch.cat([strength[:, :1] * ramp, strength, strength[:, -1:] * ramp.flip(0)], 1)
    frames = padded.unfold(1, TEMPO_WINDOW, TEMPO_HOP)
    frames = frames * torch.hann_window(TEMPO_WINDOW, device=strength.device)
    spectrum = torch.fft.rfft(frames, 2 * TEMPO_WINDOW).abs().square()
    found = torch.fft.irfft(spectrum, 2 * TEMPO_WINDOW)[..., :TEMPO_WINDOW]
    mean = (found / found.abs().amax(2, keepdim=True).clamp_min(1e-9)).mean(1)
    lag = torch.arange(1, TEMPO_WINDOW, device=strength.device)
    beats = 60 * RATE / HOP / lag
    prior = -0.5 * (beats / 120).log2().square()
    score = (1e6 * mean[:, 1:]).clamp_min(0).log1p() + prior
    return beats[score.masked_fill(beats >= 320, -torch.inf).argmax(1)]


def same_tempo(first: Tensor, second: Tensor, within: float = 0.04) -> Tensor:
    """Whether tempi (B,) agree, or one is twice the other."""
    folds = torch.tensor([0.5, 1.0, 2.0], device=first.device)
    return ((second[:, None] * folds / first[:, None] - 1).abs() <= within).any(1)


@cache
def _constant_q(device: torch.device) -> tuple[Tensor, Tensor]:
    """The top octave's filters (samples, 2 · BINS), and the weight of each octave's response."""
    lowest = 440 * 2 ** ((24 - 69) / 12) * 2 ** (OCTAVES - 1)
    frequencies = lowest * 2 ** (np.arange(BINS) / BINS)
    lengths = RATE / frequencies / (2 ** (1 / BINS) - 1)
    size = int(lengths.max()) | 1
    at = np.arange(size) - size // 2
    filters = []
    for frequency, length in zip(frequencies, lengths, strict=True):
        window = np.where(np.abs(at) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * at / length), 0)
        phase = 2 * np.pi * frequency * at / RATE
        # A longer filter counts more, as the transform scales it.
        filters.append(window / window.sum() * np.sqrt(length) * np.exp(-1j * phase))
    stacked = np.concatenate([np.real(filters), np.imag(filters)]).T.copy()
    weights = 2 ** (np.arange(OCTAVES) / 2)
    return tuple(torch.tensor(part, device=device).float() for part in (stacked, weights))


def halved(audio: Tensor) -> Tensor:
    """Half the rate, without what lies above it: (B, samples) to (B, samples / 2)."""
    size = audio.shape[1] // 2 * 2
    bins = torch.fft.rfft(audio[:, :size])
    return torch.fft.irfft(bins[:, : size // 4 + 1], size // 2) / 2


def chroma(audio: Tensor) -> Tensor:
    """Mean energy of the twelve pitch classes (B, 12) of what sounds on, of (B, samples)."""
    filters, weights = _constant_q(audio.device)
    total = audio.new_zeros(len(audio), 12)
    for octave in range(OCTAVES):
        edge = len(filters) // 2
        moments = pad(audio, (edge, edge)).unfold(1, 2 * edge + 1, CQT_HOP >> octave)
        real, imaginary = (moments @ filters).transpose(1, 2).split(BINS, 1)
        level = torch.hypot(real, imaginary)
        # What lasts for fewer than three of seven moments is a drum, or a beginning.
        level = pad(level, (3, 3), mode="replicate").unfold(2, 7, 1).median(3).values
        # The three bins of each pitch class: one below, the one itself, one above.
        classes = level.mean(2).roll(1, 1).unflatten(1, (12, 3)).sum(2)
        total += weights[octave] * classes
        audio = halved(audio)
    return total


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's r (B,) of rows (B, n)."""
    first, second = (part - part.mean(1, keepdim=True) for part in (first, second))
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1) + 1e-9)


def profiles(tonics: Tensor, minor: Tensor) -> Tensor:
    """The key profiles (B, 12) of tonics (B,) and modes (B,)."""
    both = torch.tensor([PROFILES["major"], PROFILES["minor"]], device=tonics.device)
    at = (torch.arange(12, device=tonics.device) - tonics[:, None]) % 12
    return both[minor.long()].gather(1, at)


def loudness(audio: Tensor) -> Tensor:
    """RMS level (B,) in dB below full scale."""
    return 10 * (audio.square().mean(1) + 1e-10).log10()


def silent(audio: Tensor, below: float = -50.0, seconds: float = 1.0) -> Tensor:
    """Whether 50 ms windows in a row, of more than `seconds`, are quieter than `below` dB: (B,)."""
    windows = audio[:, : audio.shape[1] // 1600 * 1600].unflatten(1, (-1, 1600))
    quiet = 10 * (windows.square().mean(2) + 1e-12).log10() < below
    run = round(seconds / 0.05) + 1
    return quiet.unfold(1, run, 1).all(2).any(1)


def features(audio: Tensor) -> Tensor:
    """What a classifier needs to hear an instrument, (B, 256).

    Mean and spread of 64 log mel bands, mean of their rises, and how steady each one is.
    """
    log = (mel_power(audio, 64, 640) + 1e-6).log10()
    log = log - log.mean((1, 2), keepdim=True)
    change = log.diff(dim=2)
    parts = log.mean(2), log.std(2, correction=0), change.clamp_min(0).mean(2)
    return torch.cat([*parts, change.abs().median(2).values], 1)


@dataclass
class Heard:
    """What is heard in pieces: lag, beats a minute, dB, (B,) each, and pitch classes (B, 12)."""

    strength: Tensor
    tempo: Tensor
    chroma: Tensor
    loudness: Tensor
    silent: Tensor


@torch.no_grad()
def heard(audio: Tensor) -> Heard:
    """All of it, of (B, samples), a few pieces at a time."""
    found = []
    for part in audio.split(AT_ONCE[audio.device.type]):
        strength = onset_strength(part)
        found.append((strength, tempo(strength), chroma(part), loudness(part), silent(part)))
    return Heard(*(torch.cat(column) for column in zip(*found, strict=True)))
