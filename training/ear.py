"""Hears which instruments play: `python -m training.ear --data … --state …` says how well.

The ear is a linear classifier for each tag, fitted on what the codec makes of rendered clips (the
split `ear`) and tried on every fifth of them, which it was not fitted on. The figures and the
reinforcement ask it whether a piece has what its text names.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training import dataset, measures
from training.codec_model import Codec
from training.continuations import GUIDED_FRAMES, TAGS
from training.tokens import load_codec


@torch.no_grad()
def features(codec: Codec, codes: Tensor) -> Tensor:
    """What the ear listens to, (N, 256), of codes (N, K, frames) on the codec's device."""
    parts = codes.split(measures.AT_ONCE[codes.device.type])
    return torch.cat([measures.features(codec.decode(part.long())) for part in parts])


class Ear:
    """Weights for each tag, and how well they did: `found` and `invented`, shares (tags,).

    Every tag counts as much as its absence, however rare it is, so that 0 is fair to both.
    """

    def __init__(self, x: Tensor, facts: list[dict], tags: tuple[str, ...] = TAGS):
        """Fits on features (N, 256) of pieces, and on the tags that their facts tell."""
        device, self.tags = x.device, tags
        y = torch.tensor([[tag in fact["tags"] for tag in tags] for fact in facts]).float()
        x, self.mean, self.spread = x.cpu(), x.mean(0).cpu(), x.std(0).cpu() + 1e-3
        x = (x - self.mean) / self.spread
        known = torch.arange(len(x)) % 5 != 4
        share = y[known].mean(0).clamp(0.01, 0.99)
        balance = torch.where(y == 1, 0.5 / share, 0.5 / (1 - share))[known]
        self.weight = torch.zeros(x.shape[1], len(tags), requires_grad=True)
        self.bias = torch.zeros(len(tags), requires_grad=True)
        solver = torch.optim.LBFGS([self.weight, self.bias], max_iter=100)

        def loss() -> Tensor:
            solver.zero_grad()
            logits = x[known] @ self.weight + self.bias
            fit = binary_cross_entropy_with_logits(logits, y[known], balance)
            total = fit + 0.003 * self.weight.square().sum()
            total.backward()
            return total

        solver.step(loss)
        heard, there = (x[~known] @ self.weight + self.bias > 0).float(), y[~known]
        self.found = (heard * there).sum(0) / there.sum(0)
        self.invented = (heard * (1 - there)).sum(0) / (1 - there).sum(0)
        for name in ("mean", "spread", "weight", "bias"):
            setattr(self, name, getattr(self, name).detach().to(device))

    def __call__(self, x: Tensor) -> Tensor:
        """How surely each tag is heard, logits (N, tags), in pieces of features (N, 256)."""
        return ((x - self.mean) / self.spread) @ self.weight + self.bias


def fitted(folder: Path, codec: Codec, device: torch.device) -> Ear:
    """The ear of a data folder's split `ear`."""
    codes = torch.from_numpy(dataset.codes(folder, "ear")[:, :, :GUIDED_FRAMES]).to(device)
    return Ear(features(codec, codes), dataset.facts(dataset.coded(folder, "ear")))


def main() -> None:
    """Prints how often each tag is found where it is, and invented where it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ear = fitted(args.data, load_codec(args.state, device), device)
    for tag, found, invented in zip(ear.tags, ear.found, ear.invented, strict=True):
        print(f"{tag:16} found in {found:4.0%} where it is, in {invented:4.0%} where it is not")


if __name__ == "__main__":
    main()
