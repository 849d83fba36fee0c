"""The checkpoints that the plugin's users have: MusicGen's own sizes, and fine-tunes of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """Checkpoints of one shape.

    Attributes:
        base: the repository of MusicGen's own checkpoint; a fine-tune without a `config.json`
            takes its shape from here.
        fine_tunes: repositories of checkpoints that were trained on from it.
        stereo: whether it plays two channels, as eight interleaved codebooks.
    """

    base: str
    fine_tunes: tuple[str, ...]
    stereo: bool = False

    def __iter__(self) -> Iterator[str]:
        yield self.base
        yield from self.fine_tunes


CATALOGUE: Mapping[str, Family] = MappingProxyType(
    {
        "small": Family(
            "facebook/musicgen-small",
            (
                "thepatch/vanya_ai_dnb_0.1",
                "thepatch/gary_orchestra_2",
                "thepatch/keygen-gary-v2-small-8",
                "thepatch/keygen-gary-v2-small-12",
            ),
        ),
        "medium": Family(
            "facebook/musicgen-medium",
            ("thepatch/bleeps-medium", "thepatch/keygen-gary-medium-12"),
        ),
        "large": Family(
            "facebook/musicgen-large",
            (
                "thepatch/hoenn_lofi",
                "thepatch/bleeps-large-6",
                "thepatch/bleeps-large-8",
                "thepatch/bleeps-large-10",
                "thepatch/bleeps-large-14",
                "thepatch/bleeps-large-20",
                "thepatch/keygen-gary-v2-large-12",
                "thepatch/keygen-gary-v2-large-16",
            ),
        ),
        "stereo large": Family(
            "facebook/musicgen-stereo-large",
            (
                "thepatch/gary-grunge-large-stereo-v2-4",
                "thepatch/gary-grunge-large-stereo-12",
            ),
            stereo=True,
        ),
    }
)

_ORCHESTRA = "violin, epic, film, piano, strings, orchestra"

# What a fine-tune is told when the user writes nothing: the words that it was trained with.
DEFAULT_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {"thepatch/gary_orchestra": _ORCHESTRA, "thepatch/gary_orchestra_2": _ORCHESTRA}
)
