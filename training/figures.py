"""Every held-out figure, printed and written into the card: `python -m training.figures`.

Needs the held-out shard and the states; makes tokens and continuations where they are missing.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from training import dataset, listen, opus
from training.continuations import PROMPT_FRAMES
from training.losses import SpectralLoss, si_sdr
from training.render import CLIP_SECONDS, RATE
from training.tokens import load_codec

Row = tuple[str, str]
JOIN = PROMPT_FRAMES * 640


def codec_rows(args: argparse.Namespace, clips: np.ndarray) -> list[Row]:
    """Mel distance and SI-SDR beside Opus's, and the share of each codebook in use."""
    codec = load_codec(args.state, torch.device("cpu"))
    meter = SpectralLoss(long=False)
    figures: dict[str, list[tuple[float, float]]] = {"codec": [], "opus": []}
    for clip in clips[: args.codec_clips, : 10 * RATE]:
        audio = torch.from_numpy(clip.astype(np.float32) / 32768)[None]
        outputs = {"codec": codec.decode(codec.encode(audio))}
        if opus.available():
            outputs["opus"] = torch.from_numpy(opus.through(audio[0].numpy()))[None]
        for name, output in outputs.items():
            with torch.no_grad():
                mel = float(meter(output, audio)[0])
                figures[name].append((mel, float(si_sdr(output, audio))))
    rows = []
    for name, label in (("codec", "codec, 2.2 kbit/s"), ("opus", "Opus, 6 kbit/s")):
        if figures[name]:
            mel, ratio = np.array(figures[name]).T
            text = f"mel distance {mel.mean():.3f}, SI-SDR {np.median(ratio):.1f} dB (median)"
            rows.append((label, text))
    codes = np.load(args.data / "tokens_heldout.npy")[:, 0]
    entries = codec.shape.entries
    shares = [len(np.unique(codes[:, book])) / entries for book in range(codes.shape[1])]
    rows.append(("codebook entries in use", " / ".join(f"{share:.1%}" for share in shares)))
    return rows


def model_rows(args: argparse.Namespace) -> list[Row]:
    """Cross-entropy of each codebook beside its unigram entropy, as the last training run ended."""
    facts = json.loads((args.state / "lm.json").read_text())
    kinds = (
        ("cross-entropy with text, nats", facts["heldout"]["text"]),
        ("cross-entropy without text, nats", facts["heldout"]["no text"]),
        ("unigram entropy, nats", facts["unigram"]),
    )
    return [(label, " / ".join(f"{v:.2f}" for v in values)) for label, values in kinds]


def compared(prompt: np.ndarray, rest: np.ndarray, tonic: int, mode: str) -> tuple[float, ...]:
    """What goes on from a prompt (samples,) in the rest (samples,): one line of the figures."""
    silence = max(1.0, listen.longest_silence(prompt))
    return (
        listen.same_tempo(listen.tempo(prompt), listen.tempo(rest)),
        listen.pulse_kept(prompt, rest),
        np.corrcoef(listen.chroma(prompt), listen.chroma(rest))[0, 1],
        listen.key_fit(rest, tonic, mode),
        listen.loudness(rest) - listen.loudness(prompt),
        listen.longest_silence(rest) <= silence,
    )


def continuation_rows(
    args: argparse.Namespace, codes: np.ndarray, clips: np.ndarray, facts: list[dict]
) -> list[Row]:
    """Tempo, key, loudness and silence of continued prompts beside those of their prompts.

    The same is asked of the piece's own way on, which is what a perfect continuation would give.
    """
    codec = load_codec(args.state, torch.device("cpu"))
    count = min(len(codes), args.prompts)
    names, jobs = ("continued", "the piece itself"), []
    for number in range(count):
        clip = clips[number, : codes.shape[2] * 640].astype(np.float32) / 32768
        fact, prompt = facts[number], clip[:JOIN]
        played = codec.decode(torch.from_numpy(codes[number : number + 1].astype(np.int64)))
        for whole in (played[0].numpy(), clip):
            jobs.append((prompt, whole[JOIN:], fact["tonic"], fact["mode"]))
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        lines = pool.starmap(compared, jobs, chunksize=1)
    found = {name: lines[place :: len(names)] for place, name in enumerate(names)}
    seconds = codes.shape[2] / 50 - JOIN / RATE
    asked = f"{len(found['continued'])}, {JOIN / RATE:g} s, played on for {seconds:g} s"
    rows = [("prompts", asked)]
    for name, values in found.items():
        tempo, pulse, chroma, key, louder, sound = np.array(values, dtype=float).T
        rows += [
            (f"{name}: tempo within 4 %", f"{tempo.mean():.0%}"),
            (f"{name}: prompt's pulse goes on (≥ 0.3)", f"{(pulse >= 0.3).mean():.0%}"),
            (f"{name}: pitch classes of prompt kept (r ≥ 0.7)", f"{(chroma >= 0.7).mean():.0%}"),
            (
                f"{name}: key profile r ≥ 0.7",
                f"{(key >= 0.7).mean():.0%}, median {np.median(key):.2f}",
            ),
            (f"{name}: loudness within 3 dB", f"{(np.abs(louder) <= 3).mean():.0%}"),
            (f"{name}: no new silence over 1 s", f"{sound.mean():.0%}"),
        ]
    return rows


class Ear:
    """A linear classifier for each tag, fitted on rendered clips."""

    def __init__(self, clips: np.ndarray, facts: list[dict], tags: list[str]):
        rows = [
            listen.features(part.astype(np.float32) / 32768)
            for clip in clips
            for part in (clip[: 10 * RATE], clip[10 * RATE : 20 * RATE])
        ]
        x = torch.tensor(np.array(rows), dtype=torch.float32)
        self.mean, self.spread = x.mean(0), x.std(0) + 1e-3
        x = (x - self.mean) / self.spread
        y = torch.tensor([[t in fact["tags"] for t in tags] for fact in facts for _ in "ab"])
        train = torch.arange(len(x)) < 0.8 * len(x)
        self.weight = torch.zeros(x.shape[1], len(tags), requires_grad=True)
        self.bias = torch.zeros(len(tags), requires_grad=True)
        solver = torch.optim.LBFGS([self.weight, self.bias], max_iter=100)

        def loss() -> torch.Tensor:
            solver.zero_grad()
            logits = x[train] @ self.weight + self.bias
            fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[train].float())
            total = fit + 0.003 * self.weight.square().sum()
            total.backward()
            return total

        solver.step(loss)
        with torch.no_grad():
            right = ((x[~train] @ self.weight + self.bias) > 0) == y[~train]
        self.accuracy = right.float().mean(0)

    def hear(self, audio: np.ndarray) -> torch.Tensor:
        """Probability of each tag in (samples,)."""
        x = torch.tensor(listen.features(audio), dtype=torch.float32)
        with torch.no_grad():
            return (((x - self.mean) / self.spread) @ self.weight + self.bias).sigmoid()


def guidance_rows(
    args: argparse.Namespace, made: dict, clips: np.ndarray, facts: list[dict]
) -> list[Row]:
    """How often the classifier hears each tag in pieces guided to it, and in unguided ones."""
    tags = [str(tag) for tag in made["guided_tags"]]
    ear = Ear(clips, facts, tags)
    codec = load_codec(args.state, torch.device("cpu"))

    def share(codes: np.ndarray) -> torch.Tensor:
        heard = [
            ear.hear(codec.decode(torch.from_numpy(row[None].astype(np.int64)))[0].numpy())
            for row in codes
        ]
        return (torch.stack(heard) > 0.5).float().mean(0)

    free, rows = share(made["free"]), []
    for number, tag in enumerate(tags):
        guided = share(made["guided"][number])[number]
        text = f"{guided:.0%} guided, {free[number]:.0%} unguided"
        rows.append((f"“{tag}” heard", f"{text} (classifier right in {ear.accuracy[number]:.0%})"))
    return rows


def run(module: str, *options: str) -> None:
    """Runs another command of this package."""
    command = [sys.executable, "-m", f"training.{module}", *options]
    subprocess.run(command, check=True)  # noqa: S603 - our own modules


def write_card(card: Path, rows: list[Row]) -> None:
    """Puts the table between the card's two marks."""
    table = "\n".join(["| figure | value |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
    text = card.read_text()
    head, _, rest = text.partition("<!-- figures -->")
    _, _, tail = rest.partition("<!-- end of figures -->")
    text = f"{head}<!-- figures -->\n{table}\n<!-- end of figures -->{tail}"
    card.write_text(text)


def main() -> None:
    """Prints the table; with `--card`, writes it there too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--card", type=Path)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--codec-clips", type=int, default=40)
    args = parser.parse_args()
    places = ("--data", str(args.data), "--state", str(args.state))
    if not (args.data / "tokens_heldout.npy").exists():
        run("tokens", *places, "--splits", "heldout", "--shifts", "1", "--batch", "1")
    if not (args.state / "continuations.npz").exists():
        run("continuations", *places, "--prompts", str(args.prompts))
    paths = dataset.shards(args.data, "heldout", 1)
    clips, facts = np.load(paths[0], mmap_mode="r"), dataset.facts(paths)
    assert clips.shape[1] == CLIP_SECONDS * RATE
    made = dict(np.load(args.state / "continuations.npz"))
    rows: list[Row] = []
    for part in (
        lambda: codec_rows(args, clips),
        lambda: model_rows(args),
        lambda: continuation_rows(args, made["continued"], clips, facts),
        lambda: guidance_rows(args, made, clips, facts),
    ):
        rows += (found := part())
        for label, value in found:
            print(f"{label:55} {value}", flush=True)
    if args.card:
        write_card(args.card, rows)


if __name__ == "__main__":
    main()
