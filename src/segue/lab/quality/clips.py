"""The music that quality is measured on, in windows that fit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np

from ... import audio
from ...audio import Audio
from ...audio.collection import files_in, words_beside
from ...checkpoints.config import FRAMES_PER_WINDOW, ModelConfig
from ...demo.prompt import band
from ...errors import AudioError

SHORTEST_SECONDS = 1.0
SECONDS_PER_FILE = 120.0
SECONDS_IN_ALL = 1200.0
MAX_FILES = 120
"""Of long files the start is used, and of many files as much that all of them together stay below
20 minutes: more narrows the intervals little, and fills the disk."""


@dataclass(frozen=True)
class Clip:
    """Some music that models are measured on.

    Attributes:
        name: for people.
        path: the file, or None for the music by rule that stands in for the built-in prompts.
        seconds: how much of it is used, at most.
        text: the words that describe it, from a text file beside it; empty where there is none.
    """

    name: str
    path: Path | None
    seconds: float
    text: str = ""

    def samples(self, config: ModelConfig) -> Audio:
        """Read its start, at the codec's rate and with the model's channels.

        Raises:
            AudioError: it cannot be read, is too short, or holds what is no sound.
        """
        whole = band() if self.path is None else audio.read(self.path, self.seconds)
        if whole.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{self.name}: too short to measure anything: it has {whole.seconds:.3g} s, and "
                f"{SHORTEST_SECONDS:g} s is the least"
            )
        if not np.isfinite(whole.samples).all():
            raise AudioError(f"{self.name}: holds samples that are no sound (NaN or infinity)")
        samples = audio.to_channels(whole.samples, config.lm.audio_channels, whole.layout)
        rate = config.codec.sample_rate
        samples = audio.resample(samples, whole.sample_rate, rate)
        return Audio(samples.astype(np.float32), rate)


def find_clips(prompts: Sequence[Path]) -> list[Clip]:
    """Find the music in some files and folders, or segue's own if none is named.

    Folders are searched to their bottom for files whose names end as audio's do; a file that is
    named is read whatever its name.  `NAME.txt` beside a file describes it.

    Raises:
        AudioError: there is no such file or folder, a folder without audio, or too many files.
    """
    if not prompts:
        built_in = Path(str(resources.files("segue.demo"))) / "prompts"
        if not built_in.is_dir():
            return [Clip("band", None, SECONDS_PER_FILE)]
        files = files_in(built_in)
        names = [path.stem for path in files]
    else:
        files = [file for path in prompts for file in files_in(path)]
        names = [str(path) for path in files]
    if len(files) > MAX_FILES:
        raise AudioError(f"{len(files)} files are too many; name {MAX_FILES} at most")
    seconds = min(SECONDS_PER_FILE, SECONDS_IN_ALL / len(files))
    return [
        Clip(name, path, seconds, words_beside(path))
        for name, path in zip(names, files, strict=True)
    ]


def windows(
    samples: np.ndarray, hop_length: int, longest: int = FRAMES_PER_WINDOW
) -> list[np.ndarray]:
    """Cut samples `(T, C)` into as few windows of at most `longest` frames, all about as long."""
    frames = len(samples) // hop_length
    count = -(-frames // longest)
    edges = [n * frames // count * hop_length for n in range(count + 1)]
    return [samples[start:stop] for start, stop in pairwise(edges)]
