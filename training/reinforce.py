"""Reinforces what is asked of the language model: `python -m training.reinforce`.

Each round plays on some prompts several times, and plays several pieces to each tag alone; listens
to all of them; and makes those that were rewarded better than their siblings likelier, the others
less likely (REINFORCE, with the siblings' mean as the baseline). The pulse is rewarded by time as
well: a frame answers for what the seconds after it add to it, more than the same seconds of its
siblings do. What the model was before holds it back, by the divergence from it in every frame. The
state, the average of the weights of the last rounds, is kept whenever prompts that are never
learned from are continued better than before, and better than by the state that it began with.

Everything follows from the seed and the number of rounds, but for the device's rounding.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training import rewards, state, text
from training.advantages import better, better_by_time
from training.clock import Clock, cosine
from training.continuations import FRAMES, GUIDED_FRAMES, PROMPT_FRAMES, load_model
from training.generate import Sampler
from training.language_model import WEIGHTS, Average
from training.lm_model import LanguageModel
from training.pattern import SPECIAL, delayed
from training.tokens import load_codec

SCORED = {"pulse": 2.0, "pitch classes": 1.0, "key": 2.0, "tempo": 1.0, "loudness": 3.0}
KEPT = ("layers", "rounds", "judged", "judged_on")  # facts of a state that a run goes on from


@dataclass
class Rows:
    """Pieces (B, K, F) to learn from frame `first` on, their texts if any, and advantages.

    These are (B, F - first), or (B, 1) where all frames of a piece share one.
    """

    codes: Tensor
    first: int
    words: Tensor | None
    advantage: Tensor


def texts(tags: tuple[str, ...], pieces: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each tag as a text, so many times: tokens (rows, L), and the tags' numbers (rows,)."""
    lines = [text.tokens([tag]) for tag in tags]
    width = max(map(len, lines))
    words = torch.tensor([line + [text.PAD] * (width - len(line)) for line in lines], device=device)
    numbers = torch.arange(len(tags), device=device)
    return words.repeat_interleave(pieces, 0), numbers.repeat_interleave(pieces)


class Reinforcer:
    """The model, what it was before, and a round of playing, listening and learning."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.args, self.device = args, device
        self.model = load_model(args.state, device)
        self.before = load_model(args.base or args.state, device).requires_grad_(False)
        self.codec = load_codec(args.base or args.state, device)
        self.asked = rewards.Asked(args.asked, self.codec, device)
        self.average = Average(self.model, args.forgets)
        cuda = device.type == "cuda"
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=cuda)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, args.lr, (0.9, 0.98), weight_decay=0.0, fused=cuda
        )
        self.words, self.tags = texts(self.asked.ear.tags, args.pieces, device)
        self.continuing = Sampler(self.model, args.prompts * args.siblings, args.frames)
        self.naming = Sampler(self.model, len(self.words), args.named_frames, self.words.shape[1])
        judged = torch.arange(args.judged, device=device).repeat_interleave(args.draws)
        self.judged = self.asked.prompts.at(judged)
        self.judging = Sampler(self.model, len(judged), args.judged_frames)

    def drawn(self, number: int) -> Tensor:
        """The prompts of a round: most without drums, none that judging plays on."""
        drums, share = self.asked.prompts.drums.cpu(), self.args.with_drums
        chance = torch.where(drums, share / drums.sum(), (1 - share) / (~drums).sum())
        chance[: self.args.judged] = 0
        generator = torch.Generator().manual_seed(number)
        return torch.multinomial(chance, self.args.prompts, generator=generator).to(self.device)

    def play(self, number: int) -> tuple[list[Rows], dict[str, float]]:
        """A round's pieces, and what was heard in them."""
        siblings, pieces = self.args.siblings, self.args.pieces
        rows = self.drawn(number).repeat_interleave(siblings)
        prompts = self.asked.prompts.at(rows)
        continued = self.continuing.play(prompts.codes, seed=2 * number)
        names = prompts.codes.new_zeros(len(self.words), prompts.codes.shape[1], 0)
        called = self.naming.play(names, self.words, seed=2 * number + 1)
        heard = rewards.found(self.codec, continued, prompts)
        reward, there = rewards.named(self.codec, called, self.asked.ear, self.tags)
        facts = {name: float(kept.float().mean()) for name, kept in heard.kept.items()}
        facts["pulse without drums"] = float(heard.kept["pulse"][~prompts.drums].float().mean())
        advantage = better(heard.reward, siblings)[:, None]
        if self.args.by_time:
            kept, half_life = heard.value["pulse"], self.args.half_life * 50  # frames
            later = better_by_time(heard.pulse, kept, siblings, half_life)
            advantage = advantage + self.args.by_time * later
            facts["pulse's mean"] = float(kept.mean())
        facts |= {"named": float(there.float().mean()), "reward": float(heard.reward.mean())}
        return [
            Rows(continued, PROMPT_FRAMES, None, advantage),
            Rows(called, 0, self.words, better(reward, pieces)[:, None]),
        ], facts

    def logits(self, model: LanguageModel, rows: Rows, part: slice) -> Tensor:
        """The logits (b, S, K, entries) of some rows, from the frame on that is learned from."""
        columns = delayed(rows.codes[part])[..., :-1]
        with self.autocast:
            if rows.words is None:
                conditioning = torch.zeros(len(columns), 1, model.shape.dim, device=self.device)
                mask = conditioning.new_ones(len(columns), 1, 1, 1, dtype=torch.bool)
            else:
                conditioning, mask = model.conditioning(rows.words[part])
            hidden = model.hidden(columns, conditioning, mask)[:, rows.first :]
            return model.logits(hidden).float().log_softmax(-1)

    def backward(self, rows: Rows, part: slice, share: float) -> tuple[Tensor, Tensor]:
        """Adds some rows' gradients; the divergence a frame and the loss, summed over the rows."""
        codes = rows.codes[part]
        target = delayed(codes)[..., 1 + rows.first :].transpose(1, 2)  # (b, S, K)
        step = torch.arange(target.shape[1], device=self.device)[:, None]
        frame = step - torch.arange(target.shape[2], device=self.device)  # from the first on
        there = ((frame >= 0) & (target != SPECIAL)).float()
        weights = there * torch.tensor(WEIGHTS, device=self.device)
        now = self.logits(self.model, rows, part)
        with torch.no_grad():
            before = self.logits(self.before, rows, part)
        taken = now.gather(-1, target.clamp_max(SPECIAL - 1)[..., None])[..., 0]
        apart = (now.exp() * (now - before)).sum(-1) * there
        frames = codes.shape[2] - rows.first
        advantage = rows.advantage[part].expand(-1, frames)[:, frame.clamp(0, frames - 1)]
        gain = (taken * weights * advantage).sum() / frames
        far = apart.sum() / frames
        (share * (self.args.hold * far - gain)).backward()
        return far.detach(), gain.detach()

    def learn(self, played: list[Rows], rate: float, number: int) -> dict[str, float]:
        """The round's updates."""
        args, far = self.args, 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(number)
        norms, total = [], sum(len(rows.codes) for rows in played)
        orders = [
            torch.randperm(len(rows.codes), generator=generator).to(self.device) for rows in played
        ]
        for update in range(args.updates):
            self.optimizer.zero_grad(set_to_none=True)
            for rows, order in zip(played, orders, strict=True):
                mine = order[update :: args.updates]
                words = None if rows.words is None else rows.words[mine]
                some = Rows(rows.codes[mine], rows.first, words, rows.advantage[mine])
                for start in range(0, len(mine), args.micro):
                    part = slice(start, start + args.micro)
                    far += self.backward(some, part, args.updates / total)[0]
            norms.append(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True))
            self.optimizer.step()
            self.average.follow()
        return {"apart": float(far) / total, "norm": float(torch.stack(norms).mean())}

    def judge(self) -> dict[str, float]:
        """What the averaged weights keep of the prompts that are only judged on."""
        self.average.swap()
        codes = self.judging.play(self.judged.codes, seed=1)
        self.average.swap()
        return shares(rewards.found(self.codec, codes, self.judged), self.judged)


def shares(heard: rewards.Found, prompts: rewards.Prompts) -> dict[str, float]:
    """How many of the prompts were continued as asked, and a score for all of it."""
    facts = {name: float(kept.float().mean()) for name, kept in heard.kept.items()}
    for name, some in (("with", prompts.drums), ("without", ~prompts.drums)):
        facts[f"pulse {name} drums"] = float(heard.kept["pulse"][some].float().mean())
    score = sum(facts[name] * count for name, count in SCORED.items()) / sum(SCORED.values())
    return {**facts, "score": score}


def shown(facts: dict[str, float]) -> str:
    """Facts on a line."""
    return ", ".join(f"{name} {value:.3g}" for name, value in facts.items())


def reinforce(learner: Reinforcer, args: argparse.Namespace, facts: dict) -> None:
    """Rounds until the time or their number is up."""
    clock = Clock(args.seconds)
    best, first, looked = 0.0, facts.get("rounds", 0), 0.0
    on = [args.judged, args.judged_frames, args.draws]
    if facts.get("judged_on") == on:  # the state was chosen by it: another draw may say less
        best = facts["judged"]["score"]
    number, done = 0, 0.0
    while True:
        if number == 0 or done >= 1 or clock.elapsed - looked > args.look_every:
            looked = clock.elapsed
            judged = learner.judge()
            kept = judged["score"] > best and number > 0
            print(
                f"judged {number} {clock.elapsed:.0f} s: {shown(judged)}{' *' * kept}", flush=True
            )
            best = max(best, judged["score"])
            if kept:
                facts |= {"rounds": first + number, "judged": judged, "judged_on": on}
                learner.average.swap()
                state.save(args.state, "lm", learner.model.state_dict(), facts, torch.float16)
                learner.average.swap()
        if done >= 1:
            return
        begun = time.monotonic()
        played, heard = learner.play(args.seed + first + number)
        between = time.monotonic()
        ramp = min(1.0, (number + 1) / args.ramp)
        rate = ramp * cosine(args.lr, args.lr_end, done)
        learned = learner.learn(played, rate, args.seed + first + number)
        number += 1
        done = max(clock.done, number / args.rounds)
        times = f"{between - begun:.1f} + {time.monotonic() - between:.1f} s"
        print(
            f"round {number} {clock.elapsed:.0f} s ({times}): {shown(heard | learned)}", flush=True
        )


@torch.no_grad()
def report(args: argparse.Namespace, device: torch.device) -> None:
    """Only plays on the held-out prompts and says what is kept of them."""
    model, codec = load_model(args.state, device), load_codec(args.state, device)
    asked = rewards.Asked(args.asked, codec, device)
    prompts = asked.heldout
    sampler = Sampler(model, len(prompts), args.judged_frames)
    for seed in range(args.report):
        codes = sampler.play(prompts.codes, seed=seed)
        print(
            f"held-out, seed {seed}: {shown(shares(rewards.found(codec, codes, prompts), prompts))}"
        )

    words, tags = texts(asked.ear.tags, args.pieces, device)
    nothing = prompts.codes.new_zeros(len(words), prompts.codes.shape[1], 0)
    free = Sampler(model, len(words), args.named_frames).play(nothing)
    unasked = (asked.ear(rewards.features(codec, free)) > 0).float().mean(0)
    sampler = Sampler(model, len(words), args.named_frames, words.shape[1], args.guidance)
    _, heard = rewards.named(codec, sampler.play(nothing, words), asked.ear, tags)
    named = heard.float().view(-1, args.pieces).mean(1)
    for tag, share, other in zip(asked.ear.tags, named.tolist(), unasked.tolist(), strict=True):
        print(f"{tag}: {share:.0%} guided, {other:.0%} unguided")
    print(f"{int((named > unasked).sum())} more often guided, {int((named >= 0.6).sum())} in 60%")


def main() -> None:
    """Reads the options and the state; plays, listens and learns until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asked", type=Path, required=True, help="what training.rewards wrote")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="the state that holds it (else: as it begins)")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--prompts", type=int, default=128, help="prompts of a round")
    parser.add_argument("--siblings", type=int, default=8, help="continuations of each prompt")
    parser.add_argument("--pieces", type=int, default=6, help="pieces to each tag")
    parser.add_argument(
        "--frames", type=int, default=1200, help="of a continuation, with its prompt"
    )
    parser.add_argument("--named-frames", type=int, default=GUIDED_FRAMES)
    parser.add_argument("--judged", type=int, default=192, help="prompts that are only judged on")
    parser.add_argument("--judged-frames", type=int, default=FRAMES)
    parser.add_argument("--draws", type=int, default=3, help="continuations of each judged prompt")
    parser.add_argument(
        "--with-drums", type=float, default=0.2, help="share of the prompts of a round"
    )
    parser.add_argument(
        "--by-time", type=float, default=2.5, help="weight of the pulse by time; 0: only as a whole"
    )
    parser.add_argument(
        "--half-life", type=float, default=3.0, help="seconds until a frame answers for half"
    )
    parser.add_argument("--updates", type=int, default=2, help="of the weights, in a round")
    parser.add_argument("--micro", type=int, default=128, help="pieces that gradients are made of")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--lr-end", type=float, default=0.0)
    parser.add_argument("--ramp", type=int, default=4, help="rounds before the rate is whole")
    parser.add_argument("--hold", type=float, default=0.15, help="weight of the divergence")
    parser.add_argument("--forgets", type=float, default=0.05, help="of the average, an update")
    parser.add_argument("--look-every", type=float, default=90.0, help="seconds between judgements")
    parser.add_argument("--guidance", type=float, default=3.0, help="of the pieces in a report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--report", type=int, default=0, help="only judge: seeds of held-out prompts"
    )
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.report:
        report(args, device)
        return
    _, facts = state.load(args.state, "lm")
    facts = {name: facts[name] for name in KEPT if name in facts}
    reinforce(Reinforcer(args, device), args, facts)


if __name__ == "__main__":
    main()
