"""Codes, texts and structure of a split's clips on the device, where rows are drawn from them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import dataset, structure, text

TEXTS = 6  # texts drawn for each clip


class Stream:
    """Room for `capacity` clips, filled with the shards that are there, and with more as they come.

    `codes` (capacity, K, F) int16, `texts` (capacity, TEXTS, L) int16; the first `filled` count.
    """

    def __init__(self, folders: list[Path], split: str, capacity: int, device: torch.device):
        self.folders, self.split = folders, split
        self.filled, self.seen = 0, set[Path]()
        first = np.load(self._fresh()[0])
        self.codes = torch.zeros(capacity, *first.shape[1:], dtype=torch.int16, device=device)
        self.texts = torch.zeros(capacity, TEXTS, text.LENGTH, dtype=torch.int16, device=device)
        self.structure = structure.Structure(
            torch.ones(capacity, 2, device=device),
            torch.zeros(capacity, dtype=torch.long, device=device),
            torch.full((capacity, structure.BARS), structure.NONE, device=device),
        )
        self.count = torch.zeros((), device=device)
        self.look()

    def _fresh(self) -> list[Path]:
        found = [path for folder in self.folders for path in dataset.coded(folder, self.split)]
        return [path for path in found if path not in self.seen]

    def look(self) -> None:
        """Takes in the shards that have come since."""
        for path in self._fresh():
            codes, facts = torch.from_numpy(np.load(path)), dataset.facts([path])
            here = slice(self.filled, self.filled + len(codes))
            if here.stop > len(self.codes):
                return
            self.seen.add(path)
            rng = np.random.default_rng([7, len(self.seen)])
            self.codes[here] = codes.to(self.codes.device)
            self.texts[here] = text.drawn(rng, facts, TEXTS).to(self.texts.device, torch.int16)
            known = structure.read(facts)
            for name in ("times", "key", "roots"):
                getattr(self.structure, name)[here] = getattr(known, name).to(self.codes.device)
            self.filled = here.stop
            self.count.fill_(self.filled)

    def rows(self, batch: int) -> tuple[Tensor, Tensor, structure.Structure]:
        """Codes, a text and the structure of random clips; the host is not asked how many."""
        device = self.codes.device
        row = (torch.rand(batch, device=device) * self.count).long().clamp_max_(len(self.codes) - 1)
        variant = torch.randint(TEXTS, (batch,), device=device)
        codes, words = self.codes[row].long(), self.texts[row, variant].long()
        return codes, words, self.structure.at(row)
