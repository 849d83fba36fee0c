"""`Request`: what to continue, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import numpy as np

from .admission import SAMPLE_RATE, check_options
from .audio import Audio
from .bars import Grid, Snap, Timing


@dataclass(frozen=True, eq=False)
class Request:
    """What to continue, and how.

    Attributes:
        audio: the user's audio; without samples, the music begins with the text alone, and has the
            rate and the channels that it says.  See `without_prompt`.
        prompt_seconds: how much of it is encoded for the model, at most; in whole frames of the
            codec.  0 where there is no audio.
        output_seconds: length of prompt and continuation together.
        prompt_from: which end of the audio the prompt is.  From the start, the result is prompt and
            continuation; from the end, everything before the prompt comes first.
        text: a description of the music, or nothing.
        top_k, temperature, top_p: see `Sampling`.
        guidance_coef: see `Sampling`; how much the text counts.  Without text there is no guidance.
        allow_empty_text_cfg: run guidance without text all the same, at twice the work.
        seed: 0 to 2³² - 1; None chooses one, which the result names.
        extend_stride: seconds by which the model's window (MusicGen's: 30 s) moves where the output
            is longer; what remains in it is what the model hears of the music so far.  None is the
            model's own: 18 for MusicGen, 2 for AudioGen.
        variations: how many takes, with the seeds `seed`, `seed + 1` and so on.
        melody: what a melody model follows from the beginning of the prompt on: the strongest pitch
            class of the whole mix, half a second by half a second; repeated where it is shorter.
        seconds: length of the continuation alone, in the place of `output_seconds`.
        bpm: the tempo, 20 to 999 beats a minute.  With it, prompt and continuation are whole bars:
            the prompt is so many as are nearest to `prompt_seconds`, the continuation as are
            nearest to its length in seconds; from the prompt's start on, the result is a loop, to
            the nearest sample.  None knows nothing of bars.
        beats_per_bar: 4, 3, or 3.5 for 7/8.
        downbeat: seconds from the start of the audio to where a bar begins, any of them.
        bars: length of the continuation in bars, in the place of `output_seconds`; 0.5 is half one.
        prompt_bars: length of the prompt in bars, in the place of `prompt_seconds`.
        snap: what lengths in seconds and the prompt's place are rounded to: `"bar"`, `"beat"` or
            `"off"`.  What lies before the first bar of the audio is left out of a prompt from the
            start, and what lies behind the last one of a prompt from the end.
        loop_crossfade: end the result with ten milliseconds of fade into what would come before the
            prompt's start, so that it loops without a click whatever is played last.
    """

    audio: Audio
    prompt_seconds: float = 6.0
    output_seconds: float = 30.0
    prompt_from: Literal["start", "end"] = "start"
    text: str = ""
    top_k: int = 250
    temperature: float = 1.0
    guidance_coef: float = 3.0
    allow_empty_text_cfg: bool = False
    seed: int | None = None
    variations: int = 1
    melody: Audio | None = None
    extend_stride: float | None = None
    top_p: float = 0.0
    seconds: float | None = None
    bpm: float | None = None
    beats_per_bar: float = 4.0
    downbeat: float = 0.0
    bars: float | None = None
    prompt_bars: float | None = None
    snap: Snap = "bar"
    loop_crossfade: bool = False

    def __post_init__(self) -> None:
        check_options(
            prompt_seconds=self.prompt_seconds,
            output_seconds=self.output_seconds,
            prompt_from=self.prompt_from,
            text=self.text,
            top_k=self.top_k,
            temperature=self.temperature,
            guidance_coef=self.guidance_coef,
            seed=self.seed,
            variations=self.variations,
            extend_stride=self.extend_stride,
            top_p=self.top_p,
            prompted=len(self.audio.samples) > 0,
            seconds=self.seconds,
            bpm=self.bpm,
            beats_per_bar=self.beats_per_bar,
            downbeat=self.downbeat,
            bars=self.bars,
            prompt_bars=self.prompt_bars,
            snap=self.snap,
        )

    @classmethod
    def without_prompt(
        cls,
        sample_rate: int = SAMPLE_RATE,
        channels: int = 1,
        **options: Unpack[RequestOptions],
    ) -> Request:
        """Return a request for music from text alone, or from nothing.

        Args:
            sample_rate: of the result, in Hz.
            channels: of the result.
            options: the other attributes, such as `text`; `prompt_seconds` is 0.

        Raises:
            RequestError: an option is out of range.
        """
        nothing = Audio(np.zeros((0, channels), np.float32), sample_rate)
        options["prompt_seconds"] = 0.0
        return cls(nothing, **options)

    @property
    def timing(self) -> Timing | None:
        """What the request says of beats and bars; None without a tempo."""
        if self.bpm is None:
            return None
        grid = Grid(self.bpm, self.beats_per_bar, self.downbeat)
        return Timing(grid, self.bars, self.prompt_bars, self.snap)

    @property
    def guided(self) -> bool:
        """Whether there is a second, unconditioned stream."""
        return self.described or self.melody is not None or self.allow_empty_text_cfg

    @property
    def described(self) -> bool:
        """Whether there is text; blanks are none."""
        return bool(self.text.strip())


class RequestOptions(TypedDict, total=False):
    """The attributes of `Request` but its audio, as keyword arguments; all have its defaults."""

    prompt_seconds: float
    output_seconds: float
    prompt_from: Literal["start", "end"]
    text: str
    top_k: int
    temperature: float
    guidance_coef: float
    allow_empty_text_cfg: bool
    seed: int | None
    variations: int
    melody: Audio | None
    extend_stride: float | None
    top_p: float
    seconds: float | None
    bpm: float | None
    beats_per_bar: float
    downbeat: float
    bars: float | None
    prompt_bars: float | None
    snap: Snap
    loop_crossfade: bool
