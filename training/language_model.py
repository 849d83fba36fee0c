"""Trains the language model: `python -m training.language_model --data DATA --state STATE`.

Every step predicts each column of the delay pattern from the ones before, with a text drawn from
the clip's tags; in some rows the conditioning is zeroed, which guidance needs.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training import dataset, state, text
from training.captured import captured, eager
from training.clock import Clock, cosine
from training.lm_model import LanguageModel, LMShape
from training.pattern import SPECIAL, delayed

TEXTS = 6  # texts drawn for each clip
UNCONDITIONED = 0.2
# The first codebooks say what is played, the last only how it sounds, and are mostly noise.
WEIGHTS = (1.6, 1.1, 0.7, 0.6)


class Trainer:
    """The model, its optimizer, and one step on rows of the token data."""

    def __init__(self, args: argparse.Namespace, codes: Tensor, texts: Tensor):
        self.codes, self.texts = codes, texts  # (N, shifts, K, F) int16, (N, TEXTS, L)
        self.device = codes.device
        cuda = self.device.type == "cuda"
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=cuda, cache_enabled=False
        )
        shape = LMShape(len(text.vocabulary()), layers=args.layers, dropout=args.dropout)
        self.model = LanguageModel(shape).to(self.device)
        # Judging, whose batches have other sizes, stays with the function as it is written.
        self.learning_losses = torch.compile(self.losses) if args.compile else self.losses
        self.batch = args.batch
        self.weights = torch.tensor(WEIGHTS, device=self.device)
        self.rate = torch.tensor(args.lr, device=self.device)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors}]
        self.optimizer = torch.optim.AdamW(
            groups, self.rate, (0.9, 0.95), weight_decay=0.0, capturable=cuda, fused=cuda
        )

    def losses(self, codes: Tensor, words: Tensor, keep: Tensor | None) -> Tensor:
        """Cross-entropy (K,) in nats a code, of codes (B, K, F) under texts (B, L)."""
        columns = delayed(codes)
        with self.autocast:
            conditioning, mask = self.model.conditioning(words, keep)
            hidden = self.model.hidden(columns[..., :-1], conditioning, mask)
            logits = self.model.logits(hidden)
        target = columns[..., 1:].transpose(1, 2)  # (B, S, K)
        loss = cross_entropy(
            logits.flatten(0, 2), target.flatten(), ignore_index=SPECIAL, reduction="none"
        )
        return loss.view(target.shape).sum((0, 1)) / (codes.shape[0] * codes.shape[2])

    def step(self) -> Tensor:
        """One update; figures: cross-entropy of each codebook, gradient norm."""
        clips, shifts = self.codes.shape[:2]
        row = torch.randint(clips, (self.batch,), device=self.device)
        shift = torch.randint(shifts, (self.batch,), device=self.device)
        variant = torch.randint(TEXTS, (self.batch,), device=self.device)
        keep = torch.rand(self.batch, device=self.device) > UNCONDITIONED
        codes, words = self.codes[row, shift].long(), self.texts[row, variant]
        losses = self.learning_losses(codes, words, keep)
        (losses * self.weights).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        return torch.cat([losses, norm[None]]).detach()

    @torch.no_grad()
    def judge(self, codes: Tensor, words: Tensor) -> dict:
        """Held-out cross-entropy of each codebook, with the text and with none."""
        self.model.eval()
        found = {}
        for name, kept in (("text", True), ("no text", False)):
            keep = torch.full((len(codes),), kept, device=self.device)
            rows = [
                self.losses(part[:, 0].long(), line, k)
                for part, line, k in zip(
                    codes.split(20), words.split(20), keep.split(20), strict=True
                )
            ]
            found[name] = [round(value, 4) for value in torch.stack(rows).mean(0).tolist()]
        self.model.train()
        return found


def unigram_entropy(codes: Tensor) -> list[float]:
    """Entropy of each codebook's entries in nats, codes (N, shifts, K, F)."""
    found = []
    for k in range(codes.shape[2]):
        share = torch.bincount(codes[:, :, k].flatten().long(), minlength=2048).double()
        share = share[share > 0] / share.sum()
        found.append(round(float(-(share * share.log()).sum()), 4))
    return found


def split_data(folders: list[Path], split: str, device: torch.device, texts: int):
    """A split's codes and drawn texts, of all folders, on the device."""
    codes, facts = [], []
    for folder in folders:
        codes.append(torch.from_numpy(np.load(folder / f"tokens_{split}.npy")))
        facts += dataset.facts(dataset.shards(folder, split))[: len(codes[-1])]
    drawn = text.drawn(np.random.default_rng(7), facts, texts)
    return torch.cat(codes).to(device), drawn.to(device)


def main() -> None:
    """Reads the options, the state and the tokens; trains until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="held-out: the first's")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--lr-end", type=float, default=0.0)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--ramp", type=int, default=400)
    parser.add_argument("--burst", type=int, default=20)
    parser.add_argument("--save-every", type=float, default=120.0)
    parser.add_argument("--compile", action="store_true", help="fuse operations (a minute before)")
    parser.add_argument("--eager", action="store_true", help="launch every operation by itself")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codes, texts = split_data(args.data, "train", device, TEXTS)
    heldout, lines = split_data(args.data[:1], "heldout", device, 1)
    tensors, facts = state.load(args.state, "lm")
    torch.manual_seed(facts.get("steps", 0))
    trainer = Trainer(args, codes, texts)
    facts.pop("parts", None)
    if tensors:
        trainer.model.load_state_dict(tensors)
    facts["unigram"] = unigram_entropy(codes)
    facts["clips"] = len(codes)
    before = (facts.get("steps", 0), facts.get("seconds", 0))

    trainer.rate.fill_(1e-6)
    if args.eager:
        step = eager(trainer.step, [trainer.optimizer])
    else:
        step = captured(trainer.step, [trainer.optimizer])
    clock, steps, saved = Clock(args.seconds), 0, 0.0
    while clock.done < 1:
        ramp = min(1.0, (steps + 1) / args.ramp)
        trainer.rate.fill_(ramp * cosine(args.lr, args.lr_end, clock.done))
        for _ in range(args.burst):
            figures = step()
        steps += args.burst
        if steps % (args.burst * 10) == 0:
            shown = " ".join(f"{value:.3f}" for value in figures.tolist())
            pace = 1000 * clock.elapsed / steps
            print(f"lm {steps} {clock.elapsed:.0f} s {pace:.1f} ms {shown}", flush=True)
        if clock.elapsed - saved > args.save_every or clock.done >= 1:
            saved = clock.elapsed
            facts["steps"] = before[0] + steps
            facts["seconds"] = round(before[1] + clock.elapsed)
            facts["heldout"] = trainer.judge(heldout, lines[:, 0])
            facts["layers"] = args.layers
            print(facts, flush=True)
            state.save(args.state, "lm", trainer.model.state_dict(), facts, torch.float16)


if __name__ == "__main__":
    main()
