"""`Request`: what to continue, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import numpy as np

from .admission import MAX_SEED, SAMPLE_RATE, check_options
from .audio import Audio
from .bars import Grid, Snap, Timing
from .errors import RequestError


@dataclass(frozen=True)
class Part:
    """What is played after a continuation, with a text of its own.

    Attributes:
        text: a description of the music, or nothing.
        seconds: its length; or
        bars: its length in bars, where the request has a tempo.
        seed: of its first take; None derives it from the take's own, see `Request.parts`.
    """

    text: str = ""
    seconds: float | None = None
    bars: float | None = None
    seed: int | None = None


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
        texts: a description of each take, in the place of `text`; as many takes as texts are made,
            and `variations` need not say so.  A blank one is none: its take has no guidance for a
            text then.  A single one is that of all takes, as `text` is.
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
        parts: what is played after that, one part after the other, each with a text, a length and a
            seed of its own; its text is that of all takes.  A part hears what was played before it,
            as far as the model's window reaches, and all of it is decoded as one piece, so there is
            no join to be heard.  Its seed is `part_seed(seed, n)`, n counting from 1, unless it has
            one: a part can be played anew while those before it stay as they are.
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
    texts: Sequence[str] = ()
    seconds: float | None = None
    bpm: float | None = None
    beats_per_bar: float = 4.0
    downbeat: float = 0.0
    bars: float | None = None
    prompt_bars: float | None = None
    snap: Snap = "bar"
    loop_crossfade: bool = False
    parts: Sequence[Part] = ()

    def __post_init__(self) -> None:
        self._settle_texts()
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
            texts=self.texts,
            prompted=len(self.audio.samples) > 0,
            seconds=self.seconds,
            bpm=self.bpm,
            beats_per_bar=self.beats_per_bar,
            downbeat=self.downbeat,
            bars=self.bars,
            prompt_bars=self.prompt_bars,
            snap=self.snap,
        )
        for n, part in enumerate(self.parts, 1):
            self._check(part, n)

    def _check(self, part: Part, n: int) -> None:
        if (part.seconds is None) == (part.bars is None):
            raise RequestError(f"part {n} needs one length: its seconds or its bars")
        try:
            check_options(
                prompt_seconds=1.0,
                output_seconds=self.output_seconds,
                prompt_from="start",
                text=part.text,
                top_k=self.top_k,
                temperature=self.temperature,
                guidance_coef=self.guidance_coef,
                seed=part.seed,
                variations=self.variations,
                seconds=part.seconds,
                bars=part.bars,
                bpm=self.bpm,
            )
        except RequestError as error:
            raise RequestError(f"part {n}: {error}") from None

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

    def _settle_texts(self) -> None:
        """Keep one text as `text`, and count several."""
        if isinstance(self.texts, str):
            raise RequestError("texts are several; one is text")
        texts = tuple(self.texts)
        if len(texts) == 1 and not self.text:
            object.__setattr__(self, "text", texts[0])
            texts = ()
        object.__setattr__(self, "texts", texts)
        if len(texts) > 1 and self.variations == 1:
            object.__setattr__(self, "variations", len(texts))

    @property
    def guided(self) -> bool:
        """Whether there is a second, unconditioned stream for any take, in any part."""
        return any(map(self.guides, self._all_texts))

    def guides(self, text: str) -> bool:
        """Whether there is a second, unconditioned stream for takes with this text."""
        return bool(text.strip()) or self.melody is not None or self.allow_empty_text_cfg

    @property
    def described(self) -> bool:
        """Whether any take has a text, in any part; blanks are none."""
        return any(text.strip() for text in self._all_texts)

    @property
    def text_of_takes(self) -> tuple[str, ...]:
        """The text of each take; of its continuation, where parts come behind it."""
        return tuple(self.texts) or (self.text,) * self.variations

    def text_of_part(self, n: int) -> tuple[str, ...]:
        """The text of each take in part `n`, 0 being the continuation."""
        return (self.parts[n - 1].text,) * self.variations if n > 0 else self.text_of_takes

    @property
    def _all_texts(self) -> tuple[str, ...]:
        return (*self.text_of_takes, *(part.text for part in self.parts))


PART_SEEDS = 0x9E3779B1
"""Distance of the seeds of parts, far from any that people type: 2³² by the golden ratio, odd."""


def part_seed(seed: int, n: int) -> int:
    """The seed of a take's part `n`, of a take with `seed`; part 0 is the continuation itself."""
    return (seed + n * PART_SEEDS) % (MAX_SEED + 1)


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
    texts: Sequence[str]
    seconds: float | None
    bpm: float | None
    beats_per_bar: float
    downbeat: float
    bars: float | None
    prompt_bars: float | None
    snap: Snap
    loop_crossfade: bool
    parts: Sequence[Part]
