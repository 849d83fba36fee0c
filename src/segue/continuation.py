"""A request to a result: the one way that audio goes through segue.

    audio ─► slice ─► codes ─► delay pattern ─► prefill, decode steps ─► codes ─► audio ─► splice

The command line, the laboratory and the service all go it, through `continue_audio` or, to watch,
to listen early or to stop, through `Continuation`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .audio import Audio, fit, resample, to_channels
from .config import FRAMES_PER_WINDOW
from .engine.base import Engine, Sampling
from .errors import AudioError, RequestError
from .pattern import UNKNOWN, complete_frames, delay, undelay
from .progress import SILENT, Progress
from .splice import splice

STRIDE_FRAMES = 900
"""Frames by which the window moves when it is full: 18 s, MusicGen's own `extend_stride`."""

MAX_SEED = 2**32 - 1
MAX_OUTPUT_SECONDS = 3600.0
MAX_VARIATIONS = 64

LOUDEST = 1e30
"""Beyond it, float32 is full before the codec has added up a frame."""


@dataclass(frozen=True, eq=False)
class Request:
    """What to continue, and how.

    Attributes:
        audio: the user's audio.
        prompt_seconds: how much of it the model hears, at most; in whole frames of the codec.
        output_seconds: length of prompt and continuation together.
        prompt_from: which end of the audio the prompt is.  From the start, the result is prompt and
            continuation; from the end, everything before the prompt comes first.
        text: a description of the music, or nothing.
        top_k, temperature: see `Sampling`.
        guidance_coef: see `Sampling`; how much the text counts.  Without text there is no guidance.
        allow_empty_text_cfg: run guidance without text all the same, at twice the work.
        seed: 0 to 2³² - 1; None chooses one, which the result names.
        variations: how many takes, with the seeds `seed`, `seed + 1` and so on.
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

    def __post_init__(self) -> None:
        def demand(holds: bool, line: str) -> None:
            if not holds:
                raise RequestError(line)

        demand(
            0 < self.prompt_seconds < float("inf"),
            f"prompt-seconds must be more than 0, not {self.prompt_seconds:g}",
        )
        demand(
            0 < self.output_seconds <= MAX_OUTPUT_SECONDS,
            f"output-seconds must be more than 0 and at most {MAX_OUTPUT_SECONDS:g}, "
            f"not {self.output_seconds:g}",
        )
        demand(self.prompt_from in ("start", "end"), "prompt_from is 'start' or 'end'")
        demand(self.top_k >= 0, f"top-k must be 0 (all) or more, not {self.top_k}")
        demand(
            0 <= self.temperature <= 100,
            f"temperature must lie between 0 and 100, not {self.temperature:g}",
        )
        demand(
            -100 <= self.guidance_coef <= 100,
            f"guidance-coef must lie between -100 and 100, not {self.guidance_coef:g}",
        )
        demand(
            1 <= self.variations <= MAX_VARIATIONS,
            f"variations must lie between 1 and {MAX_VARIATIONS}, not {self.variations}",
        )
        if self.seed is not None:
            demand(
                self.seed >= 0 and self.seed + self.variations - 1 <= MAX_SEED,
                f"seeds lie between 0 and {MAX_SEED}; {self.seed} with {self.variations} "
                "variations does not",
            )
        demand(
            not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in self.text),
            "the text holds characters that are none: a zero byte, or what is not UTF-8",
        )

    @property
    def guided(self) -> bool:
        """Whether there is a second, unconditioned stream."""
        return self.described or self.allow_empty_text_cfg

    @property
    def described(self) -> bool:
        """Whether there is text; blanks are none."""
        return bool(self.text.strip())


@dataclass(frozen=True, eq=False)
class Take:
    """One continuation.

    Attributes:
        seed: what it was drawn with.
        audio: the result, at the rate and with the channels of the request's audio.
        codes: `(K, F)`, prompt and continuation.
        played: the codec's own sound of `codes`, as `audio` without what lies before the prompt:
            the prompt as the model heard it, then the continuation.
    """

    seed: int
    audio: Audio
    codes: np.ndarray
    played: Audio


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a request.

    Attributes:
        takes: one for each variation.
        join: the sample of every take's audio where the continuation starts.
        prompt_frames, new_frames: of the codec.
        guided: whether guidance ran.
        timings: seconds of each part: `prompt_encode_s`, `text_encode_s`, `prefill_s`,
            `token_generate_s`, `decode_full_s`.
        steps: decode steps that were run, each for all takes at once.
        notes: what the user should know, one line each.
    """

    takes: tuple[Take, ...]
    join: int
    prompt_frames: int
    new_frames: int
    guided: bool
    timings: dict[str, float]
    steps: int
    notes: tuple[str, ...] = ()


@dataclass
class _Clock:
    """Seconds spent under each name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def continue_audio(engine: Engine, request: Request, progress: Progress = SILENT) -> Result:
    """Play on from a request's prompt.

    Raises:
        AudioError: the prompt cannot be used.
        RequestError: options contradict each other.
    """
    continuation = Continuation(engine, request, progress)
    for _ in continuation.frames():
        pass
    return continuation.result()


class Continuation:
    """A request on its way: iterate `frames` for as long as you like, then take the `result`.

    The prompt is encoded when this is made.

    Attributes:
        prompt_codes: `(K, F)` of the prompt.
        total_frames: frames of prompt and continuation together, once all are played.
        seeds: of the takes.
    """

    def __init__(self, engine: Engine, request: Request, progress: Progress = SILENT) -> None:
        self._engine, self._request, self._progress = engine, request, progress
        self._clock = _Clock()
        self._steps = 0
        self._notes: list[str] = []
        codec, channels = engine.config.codec, engine.config.lm.audio_channels
        audio = request.audio
        self._start, self._join = self._prompt_slice()
        prompt_frames = self._frames_of(self._join - self._start)
        self.total_frames = round(request.output_seconds * codec.frame_rate)
        if self.total_frames <= prompt_frames:
            raise RequestError(
                f"nothing to play: the prompt has {prompt_frames / codec.frame_rate:g} s, prompt "
                f"and continuation together shall have {request.output_seconds:g}; "
                "raise output-seconds or lower prompt-seconds"
            )
        prompt = to_channels(audio.samples[self._start : self._join], channels)
        if not (np.abs(audio.samples[: self._join]) < LOUDEST).all():
            raise AudioError(
                f"the audio holds samples that are no sound (NaN, infinity, or beyond {LOUDEST:g})"
            )
        if not prompt.any():
            self._notes.append("the prompt is silent: the model plays on from silence")
        first = secrets.randbelow(2**31) if request.seed is None else request.seed
        self.seeds = tuple(range(first, first + request.variations))
        heard = fit(
            resample(prompt, audio.sample_rate, codec.sample_rate),
            prompt_frames * codec.hop_length,
        )
        with self._clock("prompt_encode_s"), progress.stage("encode"):
            self.prompt_codes = engine.encode(heard.astype(np.float32))
        self._codes = np.repeat(self.prompt_codes[None], request.variations, axis=0)

    def _prompt_slice(self) -> tuple[int, int]:
        """First and last sample of the prompt, which is a whole number of frames long."""
        audio, request = self._request.audio, self._request
        wanted = self._frames_of(round(request.prompt_seconds * audio.sample_rate))
        there = self._frames_of(len(audio.samples))
        rate = self._engine.config.codec.frame_rate
        if wanted == 0:
            raise RequestError(
                f"prompt-seconds of {request.prompt_seconds:g} is less than one frame "
                f"({1 / rate:g} s)"
            )
        if there == 0:
            raise AudioError(
                f"the audio is too short: {audio.seconds:.3g} s, and one frame of the codec is "
                f"{1 / rate:g} s"
            )
        if there < wanted:
            self._notes.append(
                f"the audio is shorter than the {request.prompt_seconds:g} s asked for: "
                f"the prompt is {there / rate:g} s"
            )
        # At most: three frames at 11 025 Hz are 661.5 samples, and 661 count as three.
        length = min(round(min(wanted, there) * audio.sample_rate / rate), len(audio.samples))
        start = 0 if request.prompt_from == "start" else len(audio.samples) - length
        return start, start + length

    def _frames_of(self, samples: int) -> int:
        """Whole frames in so many samples of the user's audio."""
        # Counted in integers: 6 s at 11 025 Hz must not lose a frame to rounding.
        rate, frame_rate = self._request.audio.sample_rate, self._engine.config.codec.frame_rate
        return int((samples * frame_rate + frame_rate // 2) // rate)

    @property
    def codes(self) -> np.ndarray:
        """Codes `(N, K, F)` of the prompt and of all that has been played so far."""
        return self._codes

    def frames(self) -> Iterator[np.ndarray]:
        """Play on.  Yields new codes `(N, K, n)` as their frames become whole.

        Longer outputs than the model's window of 30 s slide it, as MusicGen's own extension does:
        it moves by 18 s, and the 12 s that stay are the prompt of what comes.
        """
        conditioning = None
        if self._request.described:
            with self._clock("text_encode_s"), self._progress.stage("read the text"):
                conditioning = self._engine.condition(self._request.text)
        done = self._codes.shape[2]
        missing = self.total_frames - done
        with self._progress.stage("generate", missing, "frames") as advance:
            for start in range(0, self.total_frames, STRIDE_FRAMES):
                stop = min(start + FRAMES_PER_WINDOW, self.total_frames)
                if stop <= self._codes.shape[2]:
                    continue
                for new in self._window(start, stop, conditioning):
                    self._codes = np.concatenate([self._codes, new], axis=2)
                    advance(self._codes.shape[2] - done)
                    yield new

    def _window(self, start: int, stop: int, conditioning: object) -> Iterator[np.ndarray]:
        """Fill frames `start` to `stop`, of which the first are known."""
        request, lm = self._request, self._engine.config.lm
        K, known = lm.num_codebooks, self._codes.shape[2] - start
        codes = np.full((len(self._codes), K, stop - start), UNKNOWN, np.int32)
        codes[:, :, :known] = self._codes[:, :, start:]
        if self._codes.shape[2] == self.prompt_codes.shape[1]:
            codes = codes[:1]  # all takes start alike
        sequence = delay(codes, lm.delays, lm.special_token)
        sampling = Sampling(
            request.top_k, request.temperature, request.guidance_coef if request.guided else None
        )
        with self._clock("prefill_s"):
            columns = self._engine.prefill(sequence, self.seeds, sampling, conditioning, start)
        played = np.repeat(sequence, len(self.seeds) // len(sequence), axis=0)
        column, handed_out = known + 1, known  # the first column with an unknown entry
        while True:
            with self._clock("token_generate_s"):
                tokens = next(columns, None)
            if tokens is None:
                return
            played[:, :, column] = tokens
            column += 1
            self._steps += 1
            whole = complete_frames(column, lm.delays)
            if whole > handed_out:
                yield undelay(played[:, :, handed_out:column], lm.delays)
                handed_out = whole

    def result(self) -> Result:
        """Decode what has been played so far and splice it onto the user's audio."""
        audio, codec = self._request.audio, self._engine.config.codec
        takes = []
        with self._progress.stage("decode", len(self._codes), "takes") as advance:
            for n, (seed, codes) in enumerate(zip(self.seeds, self._codes, strict=True)):
                with self._clock("decode_full_s"):
                    decoded = self._engine.decode(codes)
                at_rate = resample(decoded, codec.sample_rate, audio.sample_rate)
                played = to_channels(at_rate, audio.channels)
                prompt = audio.samples[self._start : self._join]
                spliced = splice(prompt, played, audio.sample_rate)
                samples = np.concatenate([audio.samples[: self._start], spliced])
                takes.append(
                    Take(
                        seed,
                        replace(audio, samples=samples),
                        codes,
                        replace(audio, samples=played),
                    )
                )
                advance(n + 1)
        prompt_frames = self.prompt_codes.shape[1]
        return Result(
            takes=tuple(takes),
            join=self._join,
            prompt_frames=prompt_frames,
            new_frames=self._codes.shape[2] - prompt_frames,
            guided=self._request.guided,
            timings=dict(self._clock.seconds),
            steps=self._steps,
            notes=tuple(self._notes),
        )
