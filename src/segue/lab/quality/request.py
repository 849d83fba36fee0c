"""What a measurement of quality is to measure, checked before anything long begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...admission import MAX_VARIATIONS, check_options
from ...atomic import check_writable
from ...audio import Audio
from ...checkpoints.config import ModelConfig
from ...checkpoints.hub import BUILT_IN
from ...errors import AudioError, RequestError
from ...model import engine_for
from ...options import JUDGES
from ...progress import SILENT, Progress
from ...request import Request
from ..variant import BASELINE, Variant
from .baselines import BaselineCache
from .clips import Clip, find_clips
from .judge import Piece

SEED = 12345
"""The seeds of the takes begin here, so that two measurements compare without naming one."""

TAKES = 2
CONTINUATION_SECONDS = 6.0
SHORTEST_CONTINUATION = 0.1

MAX_FREE_PROMPTS = 8
"""Prompts that are continued, spread over all there are.  Distributions tell more, in less time: on
a CPU, decoding this much sound is most of the work already."""


@dataclass(frozen=True)
class QualityRequest:
    """What to compare with what, on which music.

    Attributes:
        variant: what is measured.
        model: the checkpoint; see `segue.load`.
        base_model: see `segue.load`.
        baseline: what counts as right, mostly the checkpoint as it is.
        engine: what runs both; see `segue.load`.
        prompts: files and folders of music that the model was not trained on; none means segue's
            own.
        judge: one of `JUDGES`: which of segue's own music distributions are compared on; None is
            `"full"` where the checkpoint has the codec that it is codes of, else `"small"`.
        text: a description for both models.  Logits are compared without guidance; continuations
            have it, as they have for users.
        seed: of the first take of each prompt, 0 to 2³² - 1.
        takes: continuations of each prompt, with the seeds `seed`, `seed + 1` and so on.
        prompt_seconds: how much of each prompt is continued from, at most.
        continuation_seconds: length of the continuations without the prompt.
        folder: where continuations are written as WAVs; None writes none.

    Raises:
        RequestError: an option is out of range, or there is no such engine.
    """

    variant: Variant
    model: str = BUILT_IN
    base_model: str | None = None
    baseline: Variant = BASELINE
    engine: str = "auto"
    prompts: Sequence[Path] = ()
    judge: str | None = None
    text: str = ""
    seed: int = SEED
    takes: int = TAKES
    prompt_seconds: float = Request.prompt_seconds
    continuation_seconds: float = CONTINUATION_SECONDS
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.continuation_seconds >= SHORTEST_CONTINUATION:
            raise RequestError(f"continuation-seconds must be {SHORTEST_CONTINUATION:g} or more")
        if not 1 <= self.takes <= MAX_VARIATIONS:
            raise RequestError(f"takes must lie between 1 and {MAX_VARIATIONS}, not {self.takes}")
        if self.judge is not None and self.judge not in JUDGES:
            raise RequestError(f"no judge {self.judge!r}; there are {', '.join(JUDGES)}")
        if self.judge is not None and self.prompts:
            raise RequestError("--judge and --quality-prompt both name the music; drop one")
        engine_for(self.engine)
        check_options(
            prompt_seconds=self.prompt_seconds,
            output_seconds=self.prompt_seconds + self.continuation_seconds,
            prompt_from=Request.prompt_from,
            text=self.text,
            top_k=Request.top_k,
            temperature=Request.temperature,
            guidance_coef=Request.guidance_coef,
            seed=self.seed,
            variations=self.takes,
        )

    def continue_from(self, clip: Audio, hop_length: int) -> Request:
        """Return the request that continues the start of a clip, in whole frames of the codec.

        Args:
            clip: at the codec's rate.
            hop_length: samples of a frame.

        Raises:
            RequestError: an option is out of range.
        """
        wanted = self.prompt_seconds * clip.sample_rate
        samples = round(min(wanted, len(clip.samples))) // hop_length * hop_length
        prompt_seconds = samples / clip.sample_rate
        return Request(
            audio=clip,
            prompt_seconds=prompt_seconds,
            output_seconds=prompt_seconds + self.continuation_seconds,
            text=self.text,
            seed=self.seed,
            variations=self.takes,
        )


@dataclass(frozen=True)
class Measurement:
    """A request with all that carrying it out takes, but for the models.

    Attributes:
        request: what is measured.
        engine: what runs both, `"mlx"`, `"native"` or `"openvino"`.
        config: the shape of the model.
        clips: music as sound; the models continue some of it.
        seconds: length of each clip.
        pieces: music as codes, on which distributions are compared instead if there are any.
        cache: where the baseline's results are stored.
        progress: shown while it runs.
    """

    request: QualityRequest
    engine: str
    config: ModelConfig
    clips: Sequence[Clip]
    seconds: Sequence[float]
    pieces: Sequence[Piece]
    cache: BaselineCache
    progress: Progress

    @classmethod
    def prepare(
        cls,
        request: QualityRequest,
        config: ModelConfig,
        pieces: Sequence[Piece] = (),
        progress: Progress = SILENT,
        seconds: Sequence[float] | None = None,
    ) -> Measurement:
        """Find and check the music, the folder and the cache.

        Args:
            request: what is measured.
            config: the shape of the model.
            pieces: music as codes.
            progress: shown while it runs.
            seconds: length of each clip, where they have been read and checked, perhaps elsewhere.

        Raises:
            AudioError: a clip cannot be used, or the folder cannot be made or written to.
            RequestError: the cache cannot be written, the prompts leave nothing to continue, or
                they are others than those that were checked.
        """
        clips = find_clips(request.prompts)
        if seconds is None:
            seconds = _checked(clips, request, config, progress)
        elif len(seconds) != len(clips):
            raise RequestError(
                f"{len(clips)} files of music here, and {len(seconds)} where the measurement was "
                "begun; all machines must have the same"
            )
        if request.folder is not None:
            try:
                request.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AudioError(f"{request.folder}: cannot be made ({error.strerror})") from None
            check_writable(request.folder / "a take.wav")
        engine = engine_for(request.engine)
        return cls(request, engine, config, clips, seconds, pieces, BaselineCache(), progress)

    def continue_from(self, clip: Audio) -> Request:
        """See `QualityRequest.continue_from`."""
        return self.request.continue_from(clip, self.config.codec.hop_length)

    def continued(self) -> set[int]:
        """Return the numbers of the clips that are continued."""
        count = min(len(self.clips), MAX_FREE_PROMPTS)
        return {n * len(self.clips) // count for n in range(count)}


def _checked(
    clips: Sequence[Clip], request: QualityRequest, config: ModelConfig, progress: Progress
) -> list[float]:
    """Read clips, and check that they can be continued; how many seconds each has."""
    seconds = []
    with progress.stage("read the prompts", len(clips)) as advance:
        for n, clip in enumerate(clips):
            samples = clip.samples(config)
            request.continue_from(samples, config.codec.hop_length)
            seconds.append(samples.seconds)
            advance(n + 1)
    return seconds
