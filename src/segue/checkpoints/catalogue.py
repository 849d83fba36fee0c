"""The checkpoints that can be had: MusicGen's own sizes, fine-tunes of each, and its relatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """Checkpoints of one shape.

    Attributes:
        dim, num_layers: of the language model; the size of a download follows from them.
        base: the repository of MusicGen's own checkpoint; a fine-tune without a `config.json`
            takes its shape from it.
        fine_tunes: repositories of checkpoints that were fine-tuned from it.
        stereo: whether it generates two channels, as eight interleaved codebooks.
        alone: whether the base comes as fine-tunes do, the language model by itself.
        melody: whether it follows melodies, in the place of cross-attention.
        sample_rate: of what it makes, in Hz.
    """

    dim: int
    num_layers: int
    base: str
    fine_tunes: tuple[str, ...]
    stereo: bool = False
    alone: bool = False
    melody: bool = False
    sample_rate: int = 32_000

    def __iter__(self) -> Iterator[str]:
        yield self.base
        yield from self.fine_tunes

    def approximate_bytes(self, name: str) -> int:
        """Estimate the size of the checkpoint `name` on disk, in bytes.

        The base comes in float32 with T5 and the codec, a fine-tune alone and mostly in float16.
        """
        codebooks = 8 if self.stereo else 4
        layer = (12 if self.melody else 16) * self.dim**2
        lm = layer * self.num_layers + 2 * codebooks * 2048 * self.dim
        if name == self.base and not self.alone:
            return 4 * (lm + T5_AND_CODEC_WEIGHTS)
        return 2 * lm


T5_AND_CODEC_WEIGHTS = 110_000_000 + 59_000_000


CATALOGUE: Mapping[str, Family] = MappingProxyType(
    {
        "small": Family(
            1024,
            24,
            "facebook/musicgen-small",
            (
                "thepatch/vanya_ai_dnb_0.1",
                "thepatch/gary_orchestra_2",
                "thepatch/keygen-gary-v2-small-8",
                "thepatch/keygen-gary-v2-small-12",
            ),
        ),
        "medium": Family(
            1536,
            48,
            "facebook/musicgen-medium",
            ("thepatch/bleeps-medium", "thepatch/keygen-gary-medium-12"),
        ),
        "large": Family(
            2048,
            48,
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
            2048,
            48,
            "facebook/musicgen-stereo-large",
            (
                "thepatch/gary-grunge-large-stereo-v2-4",
                "thepatch/gary-grunge-large-stereo-12",
            ),
            stereo=True,
        ),
        "melody medium": Family(1536, 48, "facebook/musicgen-melody", (), melody=True),
        "melody large": Family(2048, 48, "facebook/musicgen-melody-large", (), melody=True),
        "stereo melody medium": Family(
            1536, 48, "facebook/musicgen-stereo-melody", (), stereo=True, melody=True
        ),
        "stereo melody large": Family(
            2048, 48, "facebook/musicgen-stereo-melody-large", (), stereo=True, melody=True
        ),
        "audiogen medium": Family(
            1536, 48, "facebook/audiogen-medium", (), alone=True, sample_rate=16_000
        ),
    }
)

_ORCHESTRA = "violin, epic, film, piano, strings, orchestra"

# The description for a fine-tune where the user gives none: the words that it was trained with.
DEFAULT_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {"thepatch/gary_orchestra": _ORCHESTRA, "thepatch/gary_orchestra_2": _ORCHESTRA}
)
