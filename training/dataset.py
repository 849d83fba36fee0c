"""Rendered shards in memory, and random crops of them that never wait for the host."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def shards(folder: Path, split: str, limit: int | None = None) -> list[Path]:
    """The split's finished shards, in order, at most `limit`."""
    found = folder.glob(f"{split}_*.npy")
    return sorted(p for p in found if not p.stem.endswith((".part", ".codes")))[:limit]


def coded(folder: Path, split: str) -> list[Path]:
    """The files of codes of the split's shards, in order; their sound may be gone."""
    return sorted(folder.glob(f"{split}_*.codes.npy"))


def codes(folder: Path, split: str) -> np.ndarray:
    """The split's codes, int16 (clips, K, frames)."""
    return np.concatenate([np.load(path) for path in coded(folder, split)])


def facts(paths: list[Path]) -> list[dict]:
    """What is known of every clip of the shards: tags, bpm, tonic, mode, genre."""
    names = [path.with_name(path.name.split(".")[0] + ".json") for path in paths]
    return [fact for name in names for fact in json.loads(name.read_text())]


def load(paths: list[Path], device: torch.device) -> Tensor:
    """The shards' clips, int16 (clips, samples), on the device."""
    return torch.cat([torch.from_numpy(np.load(path)).to(device) for path in paths])


class Crops:
    """Random crops of random clips, drawn on the device (so a CUDA graph can hold the drawing)."""

    def __init__(self, audio: Tensor, samples: int, batch: int):
        self.audio, self.samples, self.batch = audio, samples, batch
        self.offsets = torch.arange(samples, device=audio.device)

    def __call__(self) -> Tensor:
        """(batch, samples) float32, each crop at a level of its own (-8 to +2 dB)."""
        clips, length = self.audio.shape
        device = self.audio.device
        clip = torch.randint(clips, (self.batch, 1), device=device)
        start = torch.randint(length - self.samples + 1, (self.batch, 1), device=device)
        crops = self.audio.view(-1)[clip * length + start + self.offsets].float() / 32768
        gain = 10 ** (torch.empty(self.batch, 1, device=device).uniform_(-8, 2) / 20)
        return crops * gain
