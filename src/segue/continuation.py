"""A request to a result: the one way that audio goes through segue.

    audio ─► slice ─► codes ─► delay pattern ─► prefill, decode steps ─► codes ─► audio ─► splice

The command line, the laboratory and the service all go it, through `continue_audio` or, to watch,
to listen early or to stop, through `Continuation`.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from .admission import MAX_SEED as MAX_SEED  # its place for those who use this module alone
from .audio import LOUDEST, fit, resample, to_channels
from .bars import Grid
from .engine.base import Conditioning, Engine, Sampling
from .errors import AudioError
from .layout import plan_request, stride_frames, windows
from .melody import MIX_NOTE, melody_at_rate, melody_of_windows
from .pattern import UNKNOWN, complete_frames, delay, undelay
from .progress import SILENT, Progress
from .request import Request as Request  # and theirs
from .request import RequestOptions as RequestOptions
from .request import part_seed
from .result import PlayedPart, Result, Take
from .splice import close_loop, splice
from .text_groups import TextGroups


@dataclass(frozen=True)
class _Window:
    """Frames `start` to `stop`, of which the first are known; which part is played in them."""

    start: int
    stop: int
    part: int


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
    """Continue a request's prompt to its whole length.

    Args:
        engine: what runs the checkpoint.
        request: what to continue, and how.
        progress: shown while it runs.

    Returns:
        One take for each variation.

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
        request: what is continued, and how.
        prompt_codes: `(K, F)` of the prompt.
        total_frames: frames of prompt and continuation together, once all are generated.
        seeds: of the takes.
    """

    def __init__(self, engine: Engine, request: Request, progress: Progress = SILENT) -> None:
        self._engine, self.request, self._progress = engine, request, progress
        self._clock = _Clock()
        self._steps = 0
        codec, channels = engine.config.codec, engine.config.lm.audio_channels
        audio = request.audio
        laid_out = plan_request(request, codec.frame_rate)
        self._plan = laid_out
        self._start, self._join = laid_out.start, laid_out.join
        self.total_frames = laid_out.total_frames
        self._notes = [*engine.load_report.notes, *audio.notes, *laid_out.notes]
        self._windows = self._laid_out_windows(laid_out.prompt_frames)
        prompt = to_channels(audio.samples[self._start : self._join], channels, audio.layout)
        if not (np.abs(audio.samples[laid_out.first : self._join]) < LOUDEST).all():
            raise AudioError(
                f"the audio holds samples that are no sound (NaN, infinity, or beyond {LOUDEST:g})"
            )
        if len(prompt) > 0 and not prompt.any():
            self._notes.append("the prompt is silent: the model plays on from silence")
        self._melody = melody_at_rate(engine.config, request.melody)
        if self._melody is not None:
            self._notes.append(MIX_NOTE)
        first = secrets.randbelow(2**31) if request.seed is None else request.seed
        self.seeds = tuple(range(first, first + request.variations))
        self._groups = [
            TextGroups(engine, request.text_of_part(n), self._part_seeds(n))
            for n in range(1 + len(request.parts))
        ]
        self.prompt_codes = self._encode(prompt, laid_out.prompt_frames)
        K, self._done = self.prompt_codes.shape
        self._codes = np.empty((request.variations, K, self.total_frames), np.int32)
        self._codes[:, :, : self._done] = self.prompt_codes

    def _laid_out_windows(self, prompt_frames: int) -> list[_Window]:
        """The windows of all parts; notes what of the prompt lies before the first."""
        config = self._engine.config
        window, rate = config.lm.window_frames, config.codec.frame_rate
        stride = stride_frames(
            self.request.extend_stride, config.stride_frames, window, config.codec.frame_rate
        )
        found: list[_Window] = []
        known = prompt_frames
        for part, end in enumerate(self._plan.part_frames):
            # A part begins a window of its own: what a window is conditioned on is read once.
            found += [_Window(*at, part) for at in windows(known, end, window, stride)]
            known = end
        if (unheard := found[0].start) > 0:
            self._notes.append(
                f"the model hears {window / rate:g} s at once: of the prompt it is given the last "
                f"{(prompt_frames - unheard) / rate:g} s, and not the first {unheard / rate:g} s"
            )
        return found

    def _encode(self, prompt: np.ndarray, frames: int) -> np.ndarray:
        """Codes `(K, frames)` of the prompt `(T, C)`, at the rate of the request's audio."""
        codec, rate = self._engine.config.codec, self.request.audio.sample_rate
        if frames == 0:
            return np.empty((self._engine.config.lm.num_codebooks, 0), np.int32)
        at_rate = resample(prompt, rate, codec.sample_rate)
        encoded = fit(at_rate, frames * codec.hop_length).astype(np.float32)
        with self._clock("prompt_encode_s"), self._progress.stage("encode"):
            return self._engine.encode(encoded)

    def _conditioning(self) -> list[list[Conditioning | None]]:
        """What each window's groups of takes are conditioned on; None for nothing."""
        melody, parts = self._melody, [window.part for window in self._windows]
        if melody is None and not self.request.described:
            return [self._groups[part].conditioned(None) for part in parts]
        with self._clock("text_encode_s"), self._progress.stage("read the text"):
            self._notes += dict.fromkeys(n for groups in self._groups for n in groups.notes())
            followed = [None] if melody is None else self._followed(melody)
            if len(followed) > 1:
                return [
                    self._groups[part].conditioned(heard)
                    for part, heard in zip(parts, followed, strict=True)
                ]
            read = [groups.conditioned(followed[0]) for groups in self._groups]
            return [read[part] for part in parts]

    def _followed(self, melody: np.ndarray) -> list[np.ndarray]:
        """What each window follows of a melody `(T, C)` at the codec's rate, or all windows."""
        config, request = self._engine.config, self.request
        length = request.output_seconds
        if request.seconds is not None or request.bpm is not None or request.parts:
            length = self.total_frames / config.codec.frame_rate
        return melody_of_windows(config, melody, length, [w.start for w in self._windows])

    @property
    def prompt(self) -> np.ndarray:
        """The user's own samples of the prompt, `(T, C)` at the rate of the request's audio."""
        return self.request.audio.samples[self._start : self._join]

    @property
    def new_samples(self) -> int:
        """Samples of the continuation, once all frames are generated."""
        if self._plan.stop is not None:
            return self._plan.stop - self._join
        rate = self.request.audio.sample_rate / self._engine.config.codec.frame_rate
        return round(self.total_frames * rate) - len(self.prompt)

    @property
    def codes(self) -> np.ndarray:
        """Codes `(N, K, F)` int32 of the prompt and of all frames that are generated so far.

        A read-only view: it neither copies nor grows.
        """
        codes = self._codes[:, :, : self._done]
        codes.flags.writeable = False
        return codes

    def frames(self) -> Iterator[np.ndarray]:
        """Generate: yield new codes `(N, K, n)` as their frames become complete.

        Longer outputs than the model's window slide it, as MusicGen's own extension does: of 30 s,
        it moves by 18, and the 12 s that stay are the prompt of what comes.
        """
        conditioning = self._conditioning()
        before = self._done
        missing = self.total_frames - before
        with self._progress.stage("generate", missing, "frames") as advance:
            for window, condition in zip(self._windows, conditioning, strict=True):
                for new in self._window(window, condition):
                    self._codes[:, :, self._done : self._done + new.shape[2]] = new
                    self._done += new.shape[2]
                    advance(self._done - before)
                    yield new

    def _window(
        self, window: _Window, conditioning: list[Conditioning | None]
    ) -> Iterator[np.ndarray]:
        """Fill the frames of a window."""
        lm, start, stop = self._engine.config.lm, window.start, window.stop
        K, known = lm.num_codebooks, self._done - start
        codes = np.full((len(self._codes), K, stop - start), UNKNOWN, np.int32)
        codes[:, :, :known] = self._codes[:, :, start : self._done]
        if self._done == self.prompt_codes.shape[1]:
            codes = codes[:1]  # all takes start alike
        sequence = delay(codes, lm.delays, lm.special_token)
        with self._clock("prefill_s"):
            groups = self._groups[window.part]
            columns = groups.prefill(sequence, self._sampling, conditioning, start)
        filled = np.repeat(sequence, len(self.seeds) // len(sequence), axis=0)
        column, handed_out = known + 1, known  # the first column with an unknown entry
        while True:
            with self._clock("token_generate_s"):
                tokens = next(columns, None)
            if tokens is None:
                return
            filled[:, :, column] = tokens
            column += 1
            self._steps += 1
            whole = complete_frames(column, lm.delays)
            if whole > handed_out:
                yield undelay(filled[:, :, handed_out:column], lm.delays)
                handed_out = whole

    def _part_seeds(self, n: int) -> tuple[int, ...]:
        """The seeds of the takes in part `n`, 0 being the continuation."""
        given = self.request.parts[n - 1].seed if n > 0 else None
        if given is not None:
            return tuple(range(given, given + len(self.seeds)))
        return tuple(part_seed(seed, n) for seed in self.seeds)

    def _parts(self, samples: int) -> tuple[PlayedPart, ...]:
        """The parts of takes of so many samples, as far as they were played."""
        first, found = self._plan.first, list[PlayedPart]()
        start = self._join - first
        for n, end in enumerate(self._plan.part_stops):
            stop = min(end - first, samples)
            if stop > start:
                texts = self.request.text_of_part(n)
                text = texts[0] if len(set(texts)) == 1 else None
                found.append(PlayedPart(text, start, stop, self._part_seeds(n)))
            start = max(start, stop)
        return tuple(found)

    def _sampling(self, text: str) -> Sampling:
        """How tokens of takes with this text are sampled."""
        request = self.request
        coef = request.guidance_coef if request.guides(text) else None
        return Sampling(request.top_k, request.temperature, coef, request.top_p)

    def result(self) -> Result:
        """Decode the frames that are generated so far and splice them onto the user's audio."""
        with self._progress.stage("decode", len(self._codes), "takes") as advance:
            with self._clock("decode_full_s"):
                decoded = self._engine.decode(self.codes, advance)
            # Resampling takes longer than a GPU's decoding; it lets other threads run meanwhile.
            with ThreadPoolExecutor(min(len(decoded), os.cpu_count() or 1)) as pool:
                takes = tuple(
                    pool.map(
                        self._take, self.seeds, self.request.text_of_takes, self.codes, decoded
                    )
                )
        prompt_frames = self.prompt_codes.shape[1]
        return Result(
            takes=takes,
            join=self._join - self._plan.first,
            prompt_frames=prompt_frames,
            new_frames=self._done - prompt_frames,
            guided=self.request.guided,
            timings=dict(self._clock.seconds),
            steps=self._steps,
            notes=tuple(self._notes),
            loop=self._plan.loop - self._plan.first,
            grid=self._grid(),
            parts=self._parts(len(takes[0].audio.samples)),
        )

    def _grid(self) -> Grid | None:
        """The grid of the result, whose first sample may be another than that of the audio."""
        if self.request.timing is None:
            return None
        grid, rate = self.request.timing.grid, self.request.audio.sample_rate
        downbeat = (grid.downbeat - self._plan.first / rate) % grid.bar_seconds
        if grid.bar_seconds - downbeat < 1 / rate:  # positions are whole samples, bars are not
            downbeat = 0.0
        return replace(grid, downbeat=downbeat)

    def _take(self, seed: int, text: str, codes: np.ndarray, decoded: np.ndarray) -> Take:
        """A take of codes `(K, F)` and what they were decoded to, `(T, C)` at the codec's rate."""
        audio, codec = self.request.audio, self._engine.config.codec
        at_rate = resample(decoded, codec.sample_rate, audio.sample_rate)
        played = to_channels(at_rate, audio.channels, audio.layout)
        spliced = splice(self.prompt, played, audio.sample_rate)
        first, stop = self._plan.first, self._plan.stop
        samples = np.concatenate([audio.samples[first : self._start], spliced])
        if stop is not None:
            samples = samples[: stop - first]
        if self.request.loop_crossfade:
            loop, join = self._plan.loop - first, self._join - first
            samples = close_loop(samples, loop, join, audio.sample_rate)
        return Take(
            seed, replace(audio, samples=samples), codes, replace(audio, samples=played), text
        )
