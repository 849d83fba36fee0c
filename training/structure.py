"""What is known of a piece's structure, as targets beside the codes.

Next to the codes, of which most say how something sounds, key and harmony are a small part of the
language model's loss, and it learns them last. So the states of a layer in the middle are also
asked, through a linear map that only training has, for what the score says: the key, the root of
this bar's chord and of the next one's, and the place in the bar.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BARS, PLACES = 64, 16
SIZES = (24, 12, 12, PLACES)  # key, root, next root, place in the bar
NONE = -1


@dataclass
class Structure:
    """Of each clip (N, ...): `times` (N, 2) the bar's and the start's seconds, `key` (N,), `roots`.

    `roots` (N, BARS) has the pitch classes of the chords from the piece's first bar on; NONE behind
    the last, and everywhere where nothing is known.
    """

    times: Tensor
    key: Tensor
    roots: Tensor

    def at(self, rows: Tensor) -> "Structure":
        """Of some clips."""
        return Structure(self.times[rows], self.key[rows], self.roots[rows])

    def labels(self, frames: int) -> list[Tensor]:
        """The four targets of every frame, (N, frames) each."""
        middle = (torch.arange(frames, device=self.times.device) + 0.5) / 50
        bars = (middle + self.times[:, 1:]) / self.times[:, :1]
        bar = bars.long().clamp_max(BARS - 2)
        roots = [self.roots.gather(1, bar + ahead) for ahead in (0, 1)]
        known = roots[0] != NONE
        place = ((bars - bar) * PLACES).long().clamp(0, PLACES - 1)
        found = [self.key[:, None].expand_as(bar), *roots, place]
        return [torch.where(known, part, NONE) for part in found]


def read(facts: list[dict]) -> Structure:
    """The structure that the facts of clips tell; shards of before know none."""
    times, keys = np.ones((len(facts), 2), np.float32), np.zeros(len(facts), np.int64)
    roots = np.full((len(facts), BARS), NONE, np.int64)
    for number, fact in enumerate(facts):
        keys[number] = 2 * fact["tonic"] + (fact["mode"] == "minor")
        if "roots" in fact:
            times[number] = fact["bar"], fact["skip"]
            roots[number, : len(fact["roots"])] = fact["roots"][:BARS]
    return Structure(*map(torch.from_numpy, (times, keys, roots)))


class Asked(nn.Module):
    """The linear map from states (B, S, dim) to the four guesses."""

    def __init__(self, dim: int):
        super().__init__()
        self.guess = nn.Linear(dim, sum(SIZES))

    def forward(self, states: Tensor, labels: list[Tensor]) -> Tensor:
        """Cross-entropy (4,) in nats; states whose frame is beyond the labels' are not asked."""
        frames = labels[0].shape[1]
        guesses = self.guess(states[:, :frames]).float().split(SIZES, -1)
        return torch.stack(
            [
                cross_entropy(guess.flatten(0, 1), label.flatten(), ignore_index=NONE)
                for guess, label in zip(guesses, labels, strict=True)
            ]
        )
