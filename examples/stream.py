"""Hear a continuation while it is generated: from the loudspeaker, or in a file that grows.

python examples/stream.py song.wav
python examples/stream.py song.wav -o continuation.wav
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

import segue
from segue import audio


def to_file(chunks: Iterator[np.ndarray], path: Path, sample_rate: int, channels: int) -> None:
    with soundfile.SoundFile(path, "w", sample_rate, channels, "FLOAT") as file:
        for chunk in chunks:
            file.write(chunk)
            file.flush()
            print(f"{file.frames / sample_rate:.1f} s", flush=True)


def to_loudspeaker(chunks: Iterator[np.ndarray], sample_rate: int, channels: int) -> None:
    import sounddevice  # pip install sounddevice

    with sounddevice.OutputStream(sample_rate, channels=channels, dtype="float32") as device:
        for chunk in chunks:
            device.write(np.clip(chunk, -1, 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="a WAV file instead of the loudspeaker")
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--seconds", type=float, default=30, help="prompt and continuation")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    try:
        prompt = audio.read(options.prompt)
        model = segue.load(options.model)
        chunks = model.stream(
            prompt.samples,
            prompt.sample_rate,
            prompt_from="end",
            output_seconds=options.seconds,
            seed=options.seed,
        )
        if options.output:
            to_file(chunks, options.output, prompt.sample_rate, prompt.channels)
        else:
            to_loudspeaker(chunks, prompt.sample_rate, prompt.channels)
    except segue.SegueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
