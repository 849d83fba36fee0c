"""What a measurement of quality was asked for, checked before anything long begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...admission import MAX_VARIATIONS
from ...atomic import check_writable
from ...audio import Audio
from ...checkpoints.config import ModelConfig
from ...continuation import Request
from ...errors import AudioError, RequestError
from ...progress import Progress
from ..variant import Variant
from .baselines import BaselineCache
from .clips import Clip

MAX_FREE_PROMPTS = 8
"""Prompts that are played on from, spread over all there are.  Distributions tell more, in less
time: on a CPU, decoding this much sound is most of the work already."""


@dataclass(frozen=True)
class Plan:
    """What `segue.lab.quality.measure` was asked for.

    Attributes:
        config: the shape of the model.
        clips: what is heard.
        cache: where the baseline's answers are kept.
    """

    baseline: Variant
    variant: Variant
    model: str
    base_model: str | None
    engine: str
    config: ModelConfig
    clips: Sequence[Clip]
    seed: int
    text: str
    takes: int
    continuation_seconds: float
    folder: Path | None
    cache: BaselineCache
    progress: Progress

    def check(self) -> list[float]:
        """The seconds of each clip.

        Raises:
            AudioError: a clip cannot be heard, or the folder cannot be made or written to.
            RequestError: an option is out of range.
        """
        if not self.continuation_seconds >= 0.1:
            raise RequestError("continuation-seconds must be 0.1 or more")
        if not 1 <= self.takes <= MAX_VARIATIONS:
            raise RequestError(f"takes must lie between 1 and {MAX_VARIATIONS}, not {self.takes}")
        seconds = []
        with self.progress.stage("read the prompts", len(self.clips)) as advance:
            for n, clip in enumerate(self.clips):
                heard = clip.samples(self.config)
                self.request(heard)
                seconds.append(heard.seconds)
                advance(n + 1)
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AudioError(f"{self.folder}: cannot be made ({error.strerror})") from None
            check_writable(self.folder / "a take.wav")
        return seconds

    def request(self, heard: Audio) -> Request:
        """To play on from the start of a clip."""
        hop = self.config.codec.hop_length
        wanted = round(Request.prompt_seconds * heard.sample_rate)
        prompt_seconds = min(wanted, len(heard.samples)) // hop * hop / heard.sample_rate
        return Request(
            audio=heard,
            prompt_seconds=prompt_seconds,
            output_seconds=prompt_seconds + self.continuation_seconds,
            text=self.text,
            seed=self.seed,
            variations=self.takes,
        )

    def played_on_from(self) -> set[int]:
        """Numbers of the clips that are."""
        count = min(len(self.clips), MAX_FREE_PROMPTS)
        return {n * len(self.clips) // count for n in range(count)}
