"""`python -m segue.demo`: the main job on what segue brings along."""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path

from .. import audio, cli, hub
from .prompt import band
from .toy import write_checkpoint


def main() -> int:
    """Continue a built-in prompt with the built-in checkpoint, or with what stands in for it."""
    parser = argparse.ArgumentParser(prog="python -m segue.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo-out"), help="where to write")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    model = hub.BUILT_IN
    if hub.built_in_folder() is None:
        model = str(write_checkpoint(folder / "random-checkpoint"))
        print(  # noqa: T201
            "No trained checkpoint is built in: one of random weights, made on the spot, stands\n"
            "in.  It shows that everything runs, and plays noise.",
            flush=True,
        )
    output = folder / "continued.wav"
    return cli.main(
        ["continue", str(_prompt(folder)), "-o", str(output), "--model", model, "--seed", "1"]
    )


def _prompt(folder: Path) -> Path:
    prompts = Path(str(resources.files(__package__))) / "prompts"
    for path in sorted(prompts.glob("*.flac")):
        return path
    path = folder / "prompt.wav"
    audio.write(path, band())
    return path


if __name__ == "__main__":
    sys.exit(main())
