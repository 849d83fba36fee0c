"""Every held-out figure, printed and written into the card: `python -m training.figures`.

Needs the shards `heldout` and `ear` and the states; makes codes and continuations where they are
missing.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch

from training import dataset, ear, listen, opus
from training.codec_model import Codec
from training.continuations import FRAMES, PROMPT_FRAMES
from training.losses import SpectralLoss, si_sdr
from training.render import CLIP_SECONDS, RATE
from training.tokens import load_codec

Row = tuple[str, str]
JOIN = PROMPT_FRAMES * 640
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def codec_rows(args: argparse.Namespace, clips: np.ndarray) -> list[Row]:
    """Mel distance and SI-SDR beside Opus's, and the share of each codebook in use."""
    codec = load_codec(args.state, DEVICE)
    meter = SpectralLoss(long=False).to(DEVICE)
    figures: dict[str, list[tuple[float, float]]] = {"codec": [], "opus": []}
    for clip in clips[: args.codec_clips, : 10 * RATE]:
        audio = torch.from_numpy(clip.astype(np.float32) / 32768)[None].to(DEVICE)
        outputs = {"codec": codec.decode(codec.encode(audio))}
        if opus.available():
            copy = torch.from_numpy(opus.through(audio[0].cpu().numpy()))
            outputs["opus"] = copy[None].to(DEVICE)
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
    codes = dataset.codes(args.data, "heldout")
    entries = codec.shape.entries
    shares = [len(np.unique(codes[:, book])) / entries for book in range(codes.shape[1])]
    rows.append(("codebook entries in use", " / ".join(f"{share:.1%}" for share in shares)))
    return rows


def sound(codec: Codec, codes: np.ndarray) -> np.ndarray:
    """What the codec plays of codes (K, frames): (samples,) float32."""
    rows = torch.from_numpy(codes[None].astype(np.int64)).to(DEVICE)
    return codec.decode(rows)[0].cpu().numpy()


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
    before, after = listen.chroma(prompt), listen.chroma(rest)
    return (
        listen.same_tempo(listen.tempo(prompt), listen.tempo(rest)),
        listen.pulse_kept(prompt, rest),
        np.corrcoef(before, after)[0, 1],
        listen.key_fit(after, tonic, mode),
        listen.loudness(rest) - listen.loudness(prompt),
        listen.longest_silence(rest) <= silence,
    )


def continuation_rows(
    args: argparse.Namespace, made: dict, clips: np.ndarray, facts: list[dict], pool: Pool
) -> list[Row]:
    """Tempo, key, loudness and silence of continued prompts beside those of their prompts.

    The same is asked of the piece's own way on, which is what a perfect continuation would give,
    and of what the codec makes of it, which is the most that the language model can give.
    """
    codec = load_codec(args.state, DEVICE)
    codes = made["continued"]
    own = dataset.codes(args.data, "heldout")
    count = min(len(codes), args.prompts)
    names, jobs = ("continued", "the piece itself", "the piece through the codec"), []
    names = names[:1] if args.brief else names
    for number in range(count):
        clip = clips[number, : codes.shape[2] * 640].astype(np.float32) / 32768
        fact, prompt = facts[number], clip[:JOIN]
        wholes = [sound(codec, codes[number])]
        if not args.brief:
            wholes += [clip, sound(codec, own[number, :, : codes.shape[2]])]
        for whole in wholes:
            jobs.append((prompt, whole[JOIN:], fact["tonic"], fact["mode"]))
    lines = pool.starmap(compared, jobs, chunksize=1)
    found = {name: lines[place :: len(names)] for place, name in enumerate(names)}
    seconds = codes.shape[2] / 50 - JOIN / RATE
    drums = np.array(["drums" in fact["tags"] for fact in facts[:count]])
    asked = f"{count}, {JOIN / RATE:g} s, played on for {seconds:g} s"
    rows = [("prompts", asked)]
    for name, values in found.items():
        tempo, pulse, chroma, key, louder, quiet = np.array(values, dtype=float).T
        beats = pulse >= 0.3
        apart = f"with drums {beats[drums].mean():.0%}, without {beats[~drums].mean():.0%}"
        rows += [
            (f"{name}: tempo within 4 %", f"{tempo.mean():.0%}"),
            (f"{name}: prompt's pulse goes on (≥ 0.3)", f"{beats.mean():.0%}; {apart}"),
            (f"{name}: pitch classes of prompt kept (r ≥ 0.7)", f"{(chroma >= 0.7).mean():.0%}"),
            (
                f"{name}: key profile r ≥ 0.7",
                f"{(key >= 0.7).mean():.0%}, median {np.median(key):.2f}",
            ),
            (f"{name}: loudness within 3 dB", f"{(np.abs(louder) <= 3).mean():.0%}"),
            (f"{name}: no new silence over 1 s", f"{quiet.mean():.0%}"),
        ]
    return rows


def tempi_kept(prompt: np.ndarray, played: np.ndarray, window: int) -> tuple[bool, bool]:
    """Whether the prompt's tempo is that of the first window's rest, and of all behind it."""
    first = listen.tempo(prompt)
    parts = played[JOIN:window], played[window:]
    one, two = (listen.same_tempo(first, listen.tempo(part)) for part in parts)
    return one, two


def extended_rows(args: argparse.Namespace, made: dict, clips: np.ndarray, pool: Pool) -> list[Row]:
    """Whether pieces longer than a window keep the tempo behind it as they do within it."""
    codec, codes = load_codec(args.state, DEVICE), made["extended"]
    if not len(codes):
        return []
    jobs = []
    for number, row in enumerate(codes):
        prompt = clips[number, :JOIN].astype(np.float32) / 32768
        jobs.append((prompt, sound(codec, row), FRAMES * 640))
    one, two = np.array(pool.starmap(tempi_kept, jobs, chunksize=1), dtype=float).T
    name, seconds = f"{len(codes)} prompts played on", codes.shape[2] / 50
    return [
        (f"{name} in a window that slides: tempo kept to 30 s", f"{one.mean():.0%}"),
        (f"{name} in a window that slides: tempo from 30 to {seconds:g} s", f"{two.mean():.0%}"),
    ]


def guidance_rows(args: argparse.Namespace, made: dict) -> list[Row]:
    """How often the ear hears each tag in pieces guided to it, and in unguided ones."""
    tags = [str(tag) for tag in made["guided_tags"]]
    codec = load_codec(args.state, DEVICE)
    ears = ear.fitted(args.data, codec, DEVICE)
    place = [ears.tags.index(tag) for tag in tags]

    def heard(codes: np.ndarray) -> torch.Tensor:
        rows = torch.from_numpy(codes.reshape(-1, *codes.shape[-2:])).to(DEVICE)
        return (ears(ear.features(codec, rows)) > 0).float().cpu()[:, place]

    free = heard(made["free"]).mean(0)
    guided = heard(made["guided"]).unflatten(0, (len(tags), -1)).mean(1).diagonal()
    rows = []
    for number, tag in enumerate(tags):
        text = f"{guided[number]:.0%} guided, {free[number]:.0%} unguided"
        found, invented = ears.found[place[number]], ears.invented[place[number]]
        known = f"in clips that are known: {found:.0%} found, {invented:.0%} invented"
        rows.append((f"“{tag}” heard", f"{text} ({known})"))
    more, most = int((guided > free).sum()), int((guided >= 0.6).sum())
    text = f"{more} more often guided than not, {most} in at least 60%, of {len(tags)}"
    return [*rows, ("what the text names", text)]


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
    parser.add_argument("--brief", action="store_true", help="ask no more of the pieces themselves")
    args = parser.parse_args()
    places = ("--data", str(args.data), "--state", str(args.state))
    run("tokens", *places, "--splits", "heldout", "ear")
    if not (args.state / "continuations.npz").exists():
        run("continuations", *places, "--prompts", str(args.prompts))
    paths = dataset.shards(args.data, "heldout", 1)
    clips, facts = np.load(paths[0], mmap_mode="r"), dataset.facts(paths)
    assert clips.shape[1] == CLIP_SECONDS * RATE
    made = dict(np.load(args.state / "continuations.npz"))
    rows: list[Row] = []
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for part in (
            lambda: codec_rows(args, clips),
            lambda: model_rows(args),
            lambda: continuation_rows(args, made, clips, facts, pool),
            lambda: extended_rows(args, made, clips, pool),
            lambda: guidance_rows(args, made),
        ):
            rows += (found := part())
            for label, value in found:
                print(f"{label:55} {value}", flush=True)
    if args.card:
        write_card(args.card, rows)


if __name__ == "__main__":
    main()
