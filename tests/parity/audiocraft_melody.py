"""What AudioCraft's melody conditioner needs beside torch, and a melody.  Needs torch.

Three of its dependencies are replaced.  Demucs separates the mix into stems by a trained network,
which segue does not run: here the stem `vocals` is the mix, and the others are silent, so that
AudioCraft takes the chroma of the mix.  torchaudio's spectrogram is torch's own transform, scaled
as it scales; librosa's filters are those that `transformers` has a copy of.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers.audio_utils import chroma_filter_bank

SOURCES = ["drums", "bass", "other", "vocals"]


class Spectrogram(torch.nn.Module):  # type: ignore[misc]
    """The part of `torchaudio.transforms.Spectrogram` that AudioCraft's `ChromaExtractor` uses."""

    def __init__(
        self,
        n_fft: int,
        win_length: int,
        hop_length: int,
        power: float,
        center: bool,
        pad: int,
        normalized: bool,
    ) -> None:
        super().__init__()
        assert (power, center, pad, normalized) == (2, True, 0, True)
        self.sizes = n_fft, hop_length, win_length
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        window: Any = self.window
        flat = samples.reshape(-1, samples.shape[-1])
        found = torch.stft(flat, *self.sizes, window=window, center=True, return_complex=True)
        found = found / window.square().sum().sqrt()
        return found.abs().square().reshape(*samples.shape[:-1], *found.shape[-2:])


def _filters(sr: int, n_fft: int, tuning: float, n_chroma: int) -> np.ndarray:
    filters: np.ndarray = chroma_filter_bank(
        num_frequency_bins=n_fft, num_chroma=n_chroma, sampling_rate=sr, tuning=tuning
    )
    return filters.astype(np.float32)


class _Demucs:
    """A separation that finds nothing but vocals."""

    sources, audio_channels = SOURCES, 2

    def __init__(self, sample_rate: int) -> None:
        self.samplerate = sample_rate

    def to(self, device: object) -> _Demucs:
        return self


def _apply(model: _Demucs, mix: torch.Tensor, device: object = None) -> torch.Tensor:
    """Stems `(B, 4, C, T)` of a mix `(B, C, T)`."""
    stems = torch.zeros(len(mix), len(SOURCES), *mix.shape[1:])
    stems[:, SOURCES.index("vocals")] = mix
    return stems


def _convert(wav: torch.Tensor, from_rate: int, to_rate: int, channels: int) -> torch.Tensor:
    assert from_rate == to_rate
    mono = wav.mean(-2, keepdim=True)
    return mono.expand(*wav.shape[:-2], channels, wav.shape[-1])


@contextmanager
def dependencies(sample_rate: int) -> Iterator[None]:
    """Let AudioCraft find the replacements; Demucs' has the rate of the model."""
    parts = {
        "demucs": types.ModuleType("demucs"),
        "demucs.pretrained": types.SimpleNamespace(get_model=lambda name: _Demucs(sample_rate)),
        "demucs.apply": types.SimpleNamespace(apply_model=_apply),
        "demucs.audio": types.SimpleNamespace(convert_audio=_convert),
    }
    parts["demucs"].pretrained = parts["demucs.pretrained"]  # type: ignore[attr-defined]
    chroma: Any = sys.modules["audiocraft.modules.chroma"]
    transforms = types.SimpleNamespace(Spectrogram=Spectrogram)
    with (
        mock.patch.dict(sys.modules, parts),
        mock.patch.object(chroma, "torchaudio", types.SimpleNamespace(transforms=transforms)),
        mock.patch.object(chroma, "filters", types.SimpleNamespace(chroma=_filters)),
    ):
        yield


def conditioners(text: dict[str, Any], **fields: Any) -> tuple[tuple[str, Any], ...]:
    """Fields of an `xp.cfg` with a melody beside the text, as AudioCraft's `chroma2music` has them.

    Args:
        text: the conditioner of the text.
        fields: of `chroma_stem` that differ from MusicGen's.
    """
    chroma = {
        "sample_rate": "${sample_rate}",
        "n_chroma": 12,
        "radix2_exp": 14,
        "argmax": True,
        "match_len_on_eval": False,
        "eval_wavs": None,
        "n_eval_wavs": 100,
        "cache_path": None,
    }
    melody = {"model": "chroma_stem", "chroma_stem": chroma | fields}
    return (
        ("conditioners", {"self_wav": melody, "description": text}),
        ("fuser.prepend", ["self_wav", "description"]),
        ("fuser.cross", []),
    )


def melody(random: np.random.Generator, seconds: float, rate: int, channels: int) -> np.ndarray:
    """Notes of a seventh of a second, and noise: `(T, C)` float32."""
    count = int(seconds * rate)
    notes = 220 * 2 ** (random.integers(0, 24, (1 + 7 * count // rate, channels)) / 12)
    frequency = np.repeat(notes, 1 + rate // 7, axis=0)[:count]
    phase = 2 * np.pi * np.cumsum(frequency, axis=0) / rate
    sound = 0.3 * np.sin(phase) + 0.01 * random.standard_normal(phase.shape)
    return sound.astype(np.float16).astype(np.float32)  # for a small file
