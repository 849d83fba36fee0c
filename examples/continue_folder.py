"""Continue every loop of a folder: one model, loaded once; one output beside each input.

python examples/continue_folder.py loops/ longer/ --seconds 16
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import segue
from segue import audio

ENDINGS = {".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loops", type=Path, help="a folder of audio files")
    parser.add_argument("output", type=Path, help="a folder for the results")
    parser.add_argument("--seconds", type=float, default=16, help="length of each result")
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    if not options.loops.is_dir():
        parser.error(f"{options.loops}: no such folder")
    paths = sorted(p for p in options.loops.iterdir() if p.suffix.lower() in ENDINGS)
    if not paths:
        parser.error(f"{options.loops}: no audio files in it")
    options.output.mkdir(parents=True, exist_ok=True)
    model = segue.load(options.model)
    failed = 0
    for path in paths:
        try:
            loop = audio.read(path)
            result = model.continue_audio(
                loop.samples,
                loop.sample_rate,
                prompt_seconds=min(loop.seconds, options.seconds / 2),
                output_seconds=options.seconds,
                seed=options.seed,
            )
        except segue.SegueError as error:  # one bad file must not stop the others
            print(f"{path.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        target = options.output / f"{path.stem}.wav"
        audio.write(target, result.takes[0].audio)
        print(f"{target}  {result.takes[0].audio.seconds:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
