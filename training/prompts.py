"""Writes the held-out prompts that the demo continues: `python -m training.prompts`.

Each is the beginning of a held-out clip, chosen so that the prompts differ in their instruments.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

from training import dataset
from training.render import RATE

# File name, genre, tags that the clip must have, seconds.
WANTED = (
    ("band", "pop", ("drums", "bass"), 8.0),
    ("rock", "rock", ("drums", "electric guitar"), 8.0),
    ("piano", "classical", ("piano",), 8.0),
    ("strings", "orchestral", ("strings",), 10.0),
    ("electronic", "electronic", ("drums", "synth"), 8.0),
    ("jazz", "jazz", ("drums", "saxophone"), 8.0),
)


def main() -> None:
    """Takes the first held-out clip that fits each wish; writes Ogg Vorbis and a list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    paths = dataset.shards(args.data, "heldout", 1)
    clips, facts = np.load(paths[0], mmap_mode="r"), dataset.facts(paths)
    for name, genre, tags, seconds in WANTED:
        number = next(
            i
            for i, fact in enumerate(facts)
            if fact["genre"] == genre and all(tag in fact["tags"] for tag in tags)
        )
        audio = clips[number, : int(seconds * RATE)].astype(np.float32) / 32768
        path = args.out / f"{name}.ogg"
        soundfile.write(path, audio, RATE, format="OGG", subtype="VORBIS")
        print(f"{path.stat().st_size:>9,} {path.name}: clip {number}, {facts[number]}")


if __name__ == "__main__":
    main()
