"""What a model takes and makes: from the catalogue, or from the headers of its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import CheckpointError
from . import hub
from .catalogue import CATALOGUE
from .opening import open_checkpoint


@dataclass(frozen=True)
class Abilities:
    """What a model takes and makes; the defaults are those of MusicGen.

    Attributes:
        sample_rate: of what it makes, in Hz.
        channels: of what it makes.
        melody: whether it follows a melody.
    """

    sample_rate: int = 32_000
    channels: int = 1
    melody: bool = False

    @property
    def takes(self) -> tuple[str, ...]:
        """What it takes, as people are told."""
        return ("prompt", "text", "melody") if self.melody else ("prompt", "text")


def known_abilities(name: str) -> Abilities | None:
    """The abilities of a model of the catalogue; None for any other."""
    for family in CATALOGUE.values():
        if name in family:
            return Abilities(family.sample_rate, 2 if family.stereo else 1, family.melody)
    return None


def abilities_of(name: str, base: str | None = None) -> Abilities:
    """The abilities of a model that is wholly on this machine; MusicGen's if it cannot be opened.

    Args:
        name: for `hub.locate`.
        base: the model that it was trained from, if that is known.
    """
    folder = hub.find_local(name)
    if folder is None:
        return Abilities()
    there = base if base is not None and hub.find_local(base) is not None else None
    return _opened(str(folder), there, _state(folder))


@lru_cache(64)
def _opened(folder: str, base: str | None, state: tuple[object, ...]) -> Abilities:
    try:
        config = open_checkpoint(folder, base).config
    except CheckpointError:  # which is reported when it is loaded
        return Abilities()
    lm = config.lm
    return Abilities(config.codec.sample_rate, lm.audio_channels, lm.melody is not None)


def _state(folder: Path) -> tuple[object, ...]:
    """Another one where a file of a checkpoint has changed."""
    try:
        stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    except OSError:
        return ()
