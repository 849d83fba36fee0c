"""Trains the language model: `python -m training.language_model --data DATA --state STATE`.

Every step predicts each column of the delay pattern from the ones before, with a text drawn from
the clip's tags; in some rows the conditioning is zeroed, which guidance needs. Shards that are
encoded while it runs join in. On several cards: `torchrun --nproc-per-node 2 -m …`.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training import state, structure, text
from training.captured import captured, eager
from training.clock import Clock, cosine
from training.lm_model import LanguageModel, LMShape
from training.muon import Muon
from training.pattern import SPECIAL, delayed
from training.stream import Stream
from training.together import Together

UNCONDITIONED = 0.3
# The first codebooks say what is played, the last only how it sounds, and are mostly noise.
WEIGHTS = (1.8, 1.2, 0.6, 0.4)
STRUCTURE = 0.05  # weight of each question about the structure
START = 100  # frames after which the start no longer counts double: there the text is all there is
FORGETS = 0.02  # share of a fresh weight in the averages that are judged and kept, each burst


class Trainer:
    """The model, its optimizers, and one step on rows of the data."""

    def __init__(self, args: argparse.Namespace, data: Stream, device: torch.device):
        self.data, self.device = data, device
        cuda = device.type == "cuda"
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=cuda, cache_enabled=False
        )
        shape = LMShape(len(text.vocabulary()), layers=args.layers, dropout=args.dropout)
        self.model = LanguageModel(shape).to(device)
        self.asked = structure.Asked(shape.dim).to(device)
        # Judging, whose batches have other sizes, stays with the function as it is written.
        self.learning_losses = torch.compile(self.losses) if args.compile else self.losses
        self.batch, self.noise = args.batch, args.noise
        self.weights = torch.tensor(WEIGHTS, device=device)
        self.rate = torch.tensor(args.lr, device=device)
        self.parameters = [*self.model.parameters(), *self.asked.parameters()]
        inside = [p for p in self.model.decoder.layers.parameters() if p.dim() > 1]
        known = set(map(id, inside))
        others = [p for p in self.parameters if id(p) not in known]
        matrices = [p for p in others if p.dim() > 1]
        vectors = [p for p in others if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors}]
        self.optimizers = [
            Muon(inside, self.rate, 0.95, args.decay),
            torch.optim.AdamW(
                groups, self.rate, (0.9, 0.95), weight_decay=0.0, capturable=cuda, fused=cuda
            ),
        ]

    def losses(
        self, codes: Tensor, words: Tensor, keep: Tensor | None, heard: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropies (K,) in nats a code, of codes (B, K, F) under texts (B, L).

        Also the same with more weight on the start, and the states in the middle (B, S, dim).
        `heard` (B, K, F) is what the model hears of the codes, where that is not the same.
        """
        B, _, F = codes.shape
        columns = delayed(codes if heard is None else heard)
        with self.autocast:
            conditioning, mask = self.model.conditioning(words, keep)
            hidden, middle = self.model.states(columns[..., :-1], conditioning, mask)
            logits = self.model.logits(hidden)
        target = delayed(codes)[..., 1:].transpose(1, 2)  # (B, S, K)
        loss = cross_entropy(
            logits.flatten(0, 2), target.flatten(), ignore_index=SPECIAL, reduction="none"
        ).view(target.shape)
        more = 1 + (torch.arange(loss.shape[1], device=loss.device) / -START).exp()
        weighted = (loss * (more / more.mean())[:, None]).sum((0, 1)) / (B * F)
        return loss.sum((0, 1)) / (B * F), weighted, middle

    def noised(self, codes: Tensor) -> Tensor:
        """Codes (B, K, F) as the model may hear its own: in a quarter of the rows some are wrong.

        The wrong ones are from other moments of the same clip.
        """
        B, _, F = codes.shape
        rows = torch.rand(B, 1, 1, device=codes.device) < 0.25
        wrong = (torch.rand(codes.shape, device=codes.device) < self.noise) & rows
        other = codes.gather(2, torch.randint(F, codes.shape, device=codes.device))
        return torch.where(wrong, other, codes)

    def step(self) -> Tensor:
        """One update; figures: cross-entropy of each codebook, of each question, gradient norm."""
        codes, words, known = self.data.rows(self.batch)
        keep = torch.rand(self.batch, device=self.device) > UNCONDITIONED
        losses, weighted, middle = self.learning_losses(codes, words, keep, self.noised(codes))
        asked = self.asked(middle, known.labels(codes.shape[2]))
        ((weighted * self.weights).mean() + STRUCTURE * asked.sum()).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
        return torch.cat([losses, asked, norm[None]]).detach()

    @torch.no_grad()
    def judge(self, codes: Tensor, words: Tensor) -> dict:
        """Held-out cross-entropy of each codebook, with the text and with none."""
        self.model.eval()
        found = {}
        for name, kept in (("text", True), ("no text", False)):
            keep = torch.full((len(codes),), kept, device=self.device)
            rows = [
                self.losses(part.long(), line, k)[0]
                for part, line, k in zip(
                    codes.split(20), words.split(20), keep.split(20), strict=True
                )
            ]
            found[name] = [round(value, 4) for value in torch.stack(rows).mean(0).tolist()]
        self.model.train()
        return found


class Average:
    """A moving average of the weights: what is judged and kept, however high the learning rate."""

    def __init__(self, model: torch.nn.Module, forgets: float = FORGETS):
        self.forgets = forgets
        self.live = list(model.parameters())
        self.kept = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def follow(self) -> None:
        """Moves towards the live weights."""
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.live], self.forgets)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges both, in place."""
        for live, kept in zip(self.live, self.kept, strict=True):
            before = live.clone()
            live.copy_(kept)
            kept.copy_(before)


def unigram_entropy(codes: Tensor) -> list[float]:
    """Entropy of each codebook's entries in nats, codes (N, K, F)."""
    found = []
    for k in range(codes.shape[1]):
        share = torch.bincount(codes[:, k].flatten().long(), minlength=2048).double()
        share = share[share > 0] / share.sum()
        found.append(round(float(-(share * share.log()).sum()), 4))
    return found


def train(trainer: Trainer, args: argparse.Namespace, facts: dict, heldout: Stream) -> None:
    """Steps until the time is up; the first process judges and saves now and then."""
    before = (facts.get("steps", 0), facts.get("seconds", 0))
    together, average = args.together, Average(trainer.model)
    trainer.rate.fill_(1e-6)
    step = (eager if args.eager else captured)(trainer.step, trainer.optimizers)
    trainer.data.look()  # compiling took a minute, in which many shards came
    until = args.until or time.time() + args.seconds
    clock = Clock(max(1.0, until - time.time()))
    steps, saved, looked, done = 0, 0.0, 0.0, 0.0
    while done < 1:
        ramp = min(1.0, (steps + 1) / args.ramp)
        trainer.rate.fill_(ramp * cosine(args.lr, args.lr_end, done))
        for _ in range(args.burst):
            figures = step()
        steps += args.burst
        done = together.average(trainer.parameters, clock.done)
        done = 1.0 if done > 1 - 1e-6 else done
        average.follow()
        if clock.elapsed - looked > args.look_every:
            looked = clock.elapsed
            trainer.data.look()
        if not together.first:
            continue
        if steps % (args.burst * 10) == 0:
            shown = " ".join(f"{value:.3f}" for value in figures.tolist())
            pace, clips = 1000 * clock.elapsed / steps, trainer.data.filled
            print(f"lm {steps} {clock.elapsed:.0f} s {pace:.1f} ms {clips} {shown}", flush=True)
        if clock.elapsed - saved > args.save_every or done >= 1:
            assert figures.isfinite().all(), f"step {steps}: {figures.tolist()}"
            saved = clock.elapsed
            facts["steps"] = before[0] + steps * together.size
            facts["seconds"] = round(before[1] + clock.elapsed)
            facts["clips"] = trainer.data.filled
            average.swap()
            there = slice(heldout.filled)
            facts["heldout"] = trainer.judge(heldout.codes[there], heldout.texts[there, 0].long())
            print(facts, flush=True)
            state.save(args.state, "lm", trainer.model.state_dict(), facts, torch.float16)
            average.swap()


def main() -> None:
    """Reads the options, the state and the tokens; trains until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="held-out: the first's")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--until", type=float, help="when to end, in seconds since 1970")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.04, help="share of wrong codes heard")
    parser.add_argument("--batch", type=int, default=32, help="rows on each card")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--lr-end", type=float, default=0.0)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--ramp", type=int, default=400)
    parser.add_argument("--burst", type=int, default=20, help="steps between averages")
    parser.add_argument("--save-every", type=float, default=120.0)
    parser.add_argument("--look-every", type=float, default=10.0, help="seconds, for new shards")
    parser.add_argument("--capacity", type=int, default=120_000, help="clips, at most")
    parser.add_argument("--compile", action="store_true", help="fuse operations (a minute before)")
    parser.add_argument("--judge", action="store_true", help="only judge what is there")
    parser.add_argument("--eager", action="store_true", help="launch every operation by itself")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    args.together = together = Together()
    data = Stream(args.data, "train", args.capacity, together.device)
    heldout = Stream(args.data[:1], "heldout", 120, together.device)
    tensors, facts = state.load(args.state, "lm")
    torch.manual_seed(2 * facts.get("steps", 0) + together.rank)
    trainer = Trainer(args, data, together.device)
    facts.pop("parts", None)
    if tensors:
        trainer.model.load_state_dict(tensors)
    facts["unigram"] = unigram_entropy(data.codes[: data.filled])
    facts["layers"] = args.layers
    if args.judge:
        there = slice(heldout.filled)
        facts["heldout"] = trainer.judge(heldout.codes[there], heldout.texts[there, 0].long())
        state.save(args.state, "lm", trainer.model.state_dict(), facts, torch.float16)
        print(facts)
        return
    train(trainer, args, facts, heldout)
    together.close()


if __name__ == "__main__":
    main()
