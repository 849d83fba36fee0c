"""What reinforcement rewards, and what it plays on: `python -m training.rewards --out asked.npz`.

The file holds prompts as codes with what is heard in them (the splits `prompts` and `heldout`), and
the clips that the ear is fitted on, as codes too. So a machine that has the checkpoint and this
file needs neither the soundfont nor any sound.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import dataset, measures
from training.codec_model import Codec
from training.continuations import GUIDED_FRAMES, PROMPT_FRAMES, TAGS
from training.ear import Ear, features

JOIN = PROMPT_FRAMES * 640
LEAD = 50  # frames before the join that are decoded too, so that the codec knows where it is
# What is asked of a continuation (a value, and how soon it is enough), and how much each counts.
ASKED = {"pulse": (0.3, 0.06), "pitch classes": (0.7, 0.08), "key": (0.7, 0.08)}
COUNTS = {
    "pulse": 1.0,
    "pitch classes": 1.0,
    "key": 2.0,
    "tempo": 1.0,
    "loudness": 5.0,  # or a stronger pulse takes it away
    "sound": 0.5,
}


@dataclass
class Prompts:
    """Prompts (N, ...): codes (N, K, P), what is heard in them, key profile, drums."""

    codes: Tensor
    lag: Tensor
    tempo: Tensor
    chroma: Tensor
    loudness: Tensor
    profile: Tensor
    drums: Tensor

    def at(self, rows: Tensor) -> "Prompts":
        """Some of them, by their numbers (or a mask)."""
        return Prompts(*(getattr(self, part.name)[rows] for part in fields(self)))

    def __len__(self) -> int:
        return len(self.codes)


def listened(folder: Path, split: str) -> dict[str, np.ndarray]:
    """The prompts of a split's shards, whose sound is there, as arrays by their names."""
    parts = []
    for path in dataset.shards(folder, split):
        facts = dataset.facts([path])
        codes = np.load(path.with_suffix(".codes.npy"))[:, :, :PROMPT_FRAMES].astype(np.uint16)
        clips = np.load(path, mmap_mode="r")[: len(codes), :JOIN]
        heard = measures.heard(torch.from_numpy(clips.astype(np.float32) / 32768))
        tonics = torch.tensor([fact["tonic"] for fact in facts[: len(codes)]])
        minor = torch.tensor([fact["mode"] == "minor" for fact in facts[: len(codes)]])
        drums = ["drums" in fact["tags"] for fact in facts[: len(codes)]]
        lag, profile = measures.best_lag(heard.strength), measures.profiles(tonics, minor)
        columns = (lag, heard.tempo, heard.chroma, heard.loudness, profile)
        parts.append((codes, *(column.numpy() for column in columns), np.array(drums)))
    names = [part.name for part in fields(Prompts)]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return dict(zip(names, columns, strict=True))


class Asked:
    """The file's prompts and ear on a device."""

    def __init__(self, path: Path, codec: Codec, device: torch.device):
        kept = np.load(path)
        self.prompts, self.heldout = (
            Prompts(
                *(
                    torch.from_numpy(value.astype(np.int64) if name == "codes" else value).to(
                        device
                    )
                    for name in (part.name for part in fields(Prompts))
                    for value in (kept[f"{split}_{name}"],)
                )
            )
            for split in ("prompts", "heldout")
        )
        there = [[str(tag) for tag in line.split(",")] for line in kept["ear_tags"]]
        codes = torch.from_numpy(kept["ear_codes"].astype(np.int64)).to(device)
        self.ear = Ear(features(codec, codes), [{"tags": tags} for tags in there])


@dataclass
class Found:
    """What was found in continuations, (B,) each; `kept` as the figures ask, `reward` for all.

    `pulse` (B, frames) is what each of the continuation's frames adds to the pulse.
    """

    value: dict[str, Tensor]
    kept: dict[str, Tensor]
    reward: Tensor
    pulse: Tensor


@torch.no_grad()
def found(codec: Codec, codes: Tensor, prompts: Prompts) -> Found:
    """What continuations (B, K, F) keep of their prompts (B,)."""
    first = PROMPT_FRAMES - LEAD
    parts = []
    for part in codes[:, :, first:].split(measures.AT_ONCE[codes.device.type]):
        heard = measures.heard(codec.decode(part)[:, LEAD * 640 :])
        parts.append([getattr(heard, name.name) for name in fields(measures.Heard)])
    heard = measures.Heard(*(torch.cat(column) for column in zip(*parts, strict=True)))
    value = {
        "pulse": measures.pulse_kept(prompts.lag, heard.strength),
        "pitch classes": measures.correlation(prompts.chroma, heard.chroma),
        "key": measures.correlation(prompts.profile, heard.chroma),
        "tempo": measures.same_tempo(prompts.tempo, heard.tempo).float(),
        "loudness": (heard.loudness - prompts.loudness).abs(),
        "sound": (~heard.silent).float(),
    }
    kept = {name: value[name] >= enough for name, (enough, _) in ASKED.items()}
    kept |= {"tempo": value["tempo"] > 0, "loudness": value["loudness"] <= 3}
    kept |= {"sound": value["sound"] > 0}
    score = {name: ((value[name] - at) / soft).sigmoid() for name, (at, soft) in ASKED.items()}
    score |= {"tempo": value["tempo"], "sound": value["sound"]}
    score["loudness"] = ((2.5 - value["loudness"]) / 0.3).sigmoid()
    reward = torch.stack([score[name] * count for name, count in COUNTS.items()]).sum(0)
    by_time = measures.pulse_by_time(prompts.lag, heard.strength, ASKED["pulse"][0])
    # Two moments of the onset strength a frame; the one more after the last frame is left out.
    pulse = by_time[:, : 2 * (codes.shape[2] - PROMPT_FRAMES)].unflatten(1, (-1, 2)).sum(2)
    return Found(value, kept, reward, pulse)


@torch.no_grad()
def named(codec: Codec, codes: Tensor, ear: Ear, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards (B,) for pieces (B, K, F) with tags (B,) as their texts; whether each is heard."""
    logits = ear(features(codec, codes)).gather(1, tags[:, None])[:, 0]
    return logits.sigmoid(), logits > 0


def main() -> None:
    """Listens to the prompts and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    arrays = {
        f"{split}_{name}": value
        for split in ("prompts", "heldout")
        for name, value in listened(args.data, split).items()
    }
    facts = dataset.facts(dataset.coded(args.data, "ear"))
    codes = dataset.codes(args.data, "ear")[:, :, :GUIDED_FRAMES].astype(np.uint16)
    tags = [",".join(tag for tag in fact["tags"] if tag in TAGS) for fact in facts]
    np.savez_compressed(args.out, **arrays, ear_codes=codes, ear_tags=np.array(tags))
    count = len(arrays["prompts_codes"])
    print(f"{args.out}: {count} prompts, {len(codes)} clips, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
