"""Writes the pieces that quantizations are judged on: `python -m training.judge`.

Each is the beginning of a clip of the split `judge`, whose seeds nothing else draws from, as codes
of the built-in codec, with the words that describe it. Codes are a hundredth of the sound's size,
and they say themselves which codec they are of: `codebooks` is the digest of its codebooks.

Runs segue's own codec, without torch; beside segue it needs tinysoundfont, scipy and the soundfont
of `training/README.md`.
"""

import argparse
import multiprocessing
from pathlib import Path

import numpy as np

from segue import load
from segue.checkpoints.opening import open_checkpoint
from segue.lab.quality.judge import codebook_digest
from training.render import RATE, SOUNDFONT, Player, clip

PIECES = 40
SECONDS = 10


def piece(job: tuple[Path, int]) -> tuple[np.ndarray, str]:
    """One piece, float32 (samples,), and its words: all tags of the clip, in a drawn order."""
    soundfont, number = job
    audio, facts = clip(Player(soundfont), "judge", 0, number)
    tags = np.random.default_rng([4, 1, number]).permutation(facts["tags"])
    return audio[: SECONDS * RATE].astype(np.float32) / 32768, ", ".join(tags)


def main() -> None:
    """Renders, encodes and writes all pieces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a .npz file")
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    args = parser.parse_args()
    with multiprocessing.Pool(args.workers) as pool:
        found = pool.map(piece, [(args.soundfont, number) for number in range(args.pieces)], 1)
    checkpoint, engine = open_checkpoint("built-in"), load("built-in").engine
    codes = np.stack([engine.encode(audio[:, None]) for audio, _ in found]).astype(np.uint16)
    np.savez_compressed(
        args.out,
        codes=codes,
        texts=np.array([words for _, words in found]),
        codebooks=np.array(codebook_digest(checkpoint)),
    )
    print(f"{args.out}: {codes.shape}, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
