"""`python -m segue.demo`: continue a bundled prompt with the bundled checkpoint."""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path

from .. import atomic, audio, cli
from ..checkpoints import hub
from ..errors import SegueError

PROMPT_SECONDS = 6.0
SEED = 3  # a take whose melody moves on; of some others half a minute is one chord


def main() -> int:
    """Continue a bundled prompt with the bundled checkpoint, or with one of random weights."""
    parser = argparse.ArgumentParser(prog="python -m segue.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo-out"), help="where to write")
    folder: Path = parser.parse_args().folder
    try:
        with atomic.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return _demonstrate(folder)
    except SegueError as error:
        print(f"segue: {error}", file=sys.stderr)  # noqa: T201
        return cli.BAD_INPUT


def _demonstrate(folder: Path) -> int:
    model = hub.BUILT_IN
    if hub.built_in_folder() is None:
        from .toy import write_checkpoint

        model = str(write_checkpoint(folder / "random-checkpoint"))
        print(  # noqa: T201
            "No trained checkpoint is built in: one of random weights, made on the spot, stands\n"
            "in.  It shows that everything runs, and plays noise.",
            flush=True,
        )
    output = folder / "continued.wav"
    code = cli.main(
        [
            *("continue", str(_prompt(folder)), "-o", str(output), "--model", model),
            *("--prompt-seconds", str(PROMPT_SECONDS), "--seed", str(SEED)),
        ]
    )
    return code or _picture(output)


def _prompt(folder: Path) -> Path:
    prompts = Path(str(resources.files(__package__))) / "prompts"
    for path in sorted(prompts.glob("*.ogg")):
        return path
    from .prompt import band

    path = folder / "prompt.wav"
    audio.write(path, band())
    return path


def _picture(output: Path) -> int:
    path = output.with_suffix(".png")
    from .picture import draw

    continued = audio.read(output)
    try:
        draw(continued, round(PROMPT_SECONDS * continued.sample_rate), path)
    except ImportError:
        print('no picture: it needs matplotlib (pip install "segue[pictures]")')  # noqa: T201
        return 0
    print(f"{path}  waveform and spectrogram, the join marked")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
