"""`JobSpec`: what a job generates, from the route that accepts it to the worker that runs it.

A route builds one and checks it, the store keeps it as JSON, and the worker turns the same JSON
into a `Request`.  So what is accepted by the service does not fail in the worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ...admission import FRAME_RATE, MAX_SEED, SAMPLE_RATE, PromptFrom
from ...audio import Audio
from ...bars import Grid, Snap, Timing
from ...checkpoints.adapters import AdapterChoice
from ...checkpoints.recipe import Recipe
from ...errors import RequestError
from ...layout import Plan, plan, with_parts
from ...request import Part, Request
from ..quantization import NONE, Quantization
from .given import lengths_cleared, texts_of

RANDOM_SEEDS = 100_000
"""How many seeds there are to draw from, from 0: musicians read a seed off, and type it."""


class PromptSpan(NamedTuple):
    """The part of a job's audio that counts: all of it up to the end of the prompt.

    Attributes:
        frames: samples per channel, from the start of the audio.
        prompt_seconds: length of the prompt, at most.
        prompt_from: the end of those frames at which the prompt lies.
    """

    frames: int
    prompt_seconds: float
    prompt_from: PromptFrom


@dataclass(frozen=True)
class JobSpec:
    """Model, quantization and parameters of a job.

    Attributes:
        kind: the route that it came by: `process`, `continue`, `native`; `warm` only loads.
        model: path of a model in the list of models.
        quantization: of the model.
        start: where the prompt begins, in seconds; None puts it at the end of the audio.
        prompt_seconds, output_seconds, text, top_k, temperature, guidance_coef, variations,
            extend_stride, top_p, texts: see `Request`; 0 seconds of prompt are music from a
            description alone.
        seconds, bpm, beats_per_bar, downbeat, bars, prompt_bars, snap, loop_crossfade, parts: see
            there, too; `prompt_seconds` and `output_seconds` are the lengths that follow from them,
            without parts.
        seed: of the first take, 0 to 2³² - 1; each further take counts one up.
        adapters: that are merged into the model, by their names in the list of adapters.
        melody: the id of the input that a melody model follows; None for none.
        notes: what the user should know about the audio, one line each.
    """

    kind: str
    model: str
    quantization: Quantization = NONE
    start: float | None = 0.0
    prompt_seconds: float = 6.0
    output_seconds: float = 30.0
    text: str = ""
    top_k: int = 250
    temperature: float = 1.0
    guidance_coef: float = 3.0
    seed: int = 0
    variations: int = 1
    extend_stride: float | None = None
    top_p: float = 0.0
    texts: tuple[str, ...] = ()
    adapters: tuple[AdapterChoice, ...] = ()
    melody: str | None = None
    seconds: float | None = None
    bpm: float | None = None
    beats_per_bar: float = 4.0
    downbeat: float = 0.0
    bars: float | None = None
    prompt_bars: float | None = None
    snap: Snap = "bar"
    loop_crossfade: bool = False
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    # --- From a request ---------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        kind: str,
        model: str,
        quantization: Quantization,
        given: Mapping[str, Any],
        *,
        earlier: JobSpec | None = None,
        reduce_seed: bool = False,
    ) -> JobSpec:
        """Build the spec of a request, and check all of it that needs no audio.

        Args:
            kind: see `JobSpec`.
            model: see `JobSpec`.
            quantization: see `JobSpec`.
            given: the parameters that the client sent, by the names of the attributes.
            earlier: the job that is retried; what `given` leaves open is as it was there, but for
                the seed.
            reduce_seed: whether a seed beyond 2³² - 1 is reduced to one that every take can use;
                without, it is refused.

        Raises:
            RequestError: an option is out of range, or two contradict each other.
        """
        base = earlier or cls(kind, model, start=None if kind == "continue" else 0.0)
        changed = {**lengths_cleared(given), **given, **texts_of(given), "seed": 0}
        if earlier is not None and not earlier.prompted:
            changed |= {"start": 0.0, "prompt_seconds": 0.0, "prompt_bars": None}
        spec = replace(base, kind=kind, model=model, quantization=quantization, **changed)
        # Chosen now and kept, so that a job that is interrupted generates the same again.
        spec = replace(spec, seed=choose_seed(given.get("seed"), spec.variations, reduce_seed))
        spec.check()
        spec = spec._with_lengths()
        spec.check()
        return spec

    def _with_lengths(self) -> JobSpec:
        """The same with the lengths in seconds that follow from those in bars."""
        bar = 0.0 if self.timing is None else self.timing.grid.bar_seconds
        prompt = self.prompt_seconds if self.prompt_bars is None else self.prompt_bars * bar
        new = self.seconds if self.bars is None else self.bars * bar
        output = self.output_seconds if new is None else prompt + new
        return replace(self, prompt_seconds=prompt, output_seconds=output)

    @property
    def timing(self) -> Timing | None:
        """Beats and bars, as a `Request` has them; None without a tempo."""
        if self.bpm is None:
            return None
        grid = Grid(self.bpm, self.beats_per_bar, self.downbeat)
        return Timing(grid, self.bars, self.prompt_bars, self.snap)

    def check(self) -> None:
        """Check all that needs no audio.

        Raises:
            RequestError: an option is out of range, or two contradict each other.
        """
        silence = Audio(np.zeros((int(self.prompted), 1), np.float32), SAMPLE_RATE)
        Request(silence, prompt_seconds=self.prompt_seconds, **self._options)  # which checks itself
        lengths = self.seconds is None and self.bars is None
        if lengths and self.output_seconds <= self.prompt_seconds:
            raise RequestError(
                f"the prompt of {self.prompt_seconds:g} s leaves nothing to play of "
                f"{self.output_seconds:g} s; make it shorter"
            )

    @property
    def _options(self) -> dict[str, Any]:
        """The attributes that a `Request` has, too, but for those that the audio decides."""
        return {name: getattr(self, name) for name in _REQUEST_OPTIONS}

    @property
    def prompted(self) -> bool:
        """Whether there is audio to continue."""
        return self.prompt_seconds > 0

    @property
    def text_of_takes(self) -> tuple[str, ...]:
        """The text of each take; a blank one is none."""
        return self.texts or (self.text,) * self.variations

    @property
    def described(self) -> bool:
        """Whether any take has a text, in any part."""
        return any(text.strip() for text in (*self.text_of_takes, *self._texts_of_parts))

    @property
    def _texts_of_parts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.parts)

    @property
    def new_seconds(self) -> float:
        """How long the continuation is with all parts, about."""
        bar = 0.0 if self.timing is None else self.timing.grid.bar_seconds
        parts = sum(part.seconds or (part.bars or 0.0) * bar for part in self.parts)
        return self.output_seconds - self.prompt_seconds + parts

    @property
    def rows(self) -> int:
        """The rows of a batch that it takes: one for each take, two with a text or a melody."""
        all_guided = self.melody is not None or any(map(str.strip, self._texts_of_parts))
        guided = [all_guided or bool(text.strip()) for text in self.text_of_takes]
        return len(guided) + sum(guided)

    # --- With the audio ---------------------------------------------------------------------------

    def span(self, frames: int, sample_rate: int) -> PromptSpan:
        """The part that counts of audio of `frames` samples per channel.

        Args:
            frames: length of the audio, in samples per channel.
            sample_rate: of the audio, in Hz.

        Raises:
            RequestError: the audio ends before the prompt would start.
        """
        if self.start is None:
            return PromptSpan(frames, self.prompt_seconds, "end")
        kept = round(min(frames, (self.audio_seconds or 0.0) * sample_rate))
        if self.start == 0:
            return PromptSpan(kept, self.prompt_seconds, "start")
        left = kept / sample_rate - self.start
        if left <= 0:
            raise RequestError(
                f"the prompt cannot start at {self.start:g} s: the audio is "
                f"{frames / sample_rate:.3g} s long"
            )
        return PromptSpan(kept, min(self.prompt_seconds, left), "end")

    @property
    def audio_seconds(self) -> float | None:
        """How much of the audio `request` uses at most, from its start; None for all of it."""
        if self.start is None:
            return None
        # A prompt from the start begins with the first bar, and may be rounded up to a whole one.
        snapped = 0.0 if self.timing is None or self.start > 0 else 2 * self.timing.grid.bar_seconds
        return self.start + self.prompt_seconds + snapped

    def plan(self, frames: int, sample_rate: int) -> Plan:
        """Lay the job out over its audio, with the codec's usual frame rate.

        Args:
            frames: length of the audio, in samples per channel.
            sample_rate: of the audio, in Hz.

        Raises:
            AudioError: the audio is shorter than one frame of the codec.
            RequestError: the prompt lies behind the audio, or nothing is left to generate.
        """
        span = self.span(frames, sample_rate)
        laid_out = plan(
            span.frames,
            sample_rate,
            prompt_seconds=span.prompt_seconds,
            output_seconds=self.output_seconds,
            prompt_from=span.prompt_from,
            seconds=self.seconds,
            timing=self.timing,
        )
        lengths = [(part.seconds, part.bars) for part in self.parts]
        return with_parts(laid_out, lengths, sample_rate, FRAME_RATE, self.timing)

    def check_length(self, frames: int, sample_rate: int, most_seconds: float) -> None:
        """Check what only shows with the audio: what `plan` raises, and how long it all gets.

        Args:
            frames: see `plan`.
            sample_rate: see there.
            most_seconds: that prompt, continuation and parts may have together.

        Raises:
            AudioError: see `plan`.
            RequestError: see there; or it is longer.
        """
        seconds = self.plan(frames, sample_rate).total_frames / FRAME_RATE
        if seconds > most_seconds + 1 / FRAME_RATE:
            raise RequestError(
                f"prompt, continuation and parts would be {seconds:.1f} s long together; at most "
                f"{most_seconds:g} can be"
            )

    def request(self, audio: Audio, melody: Audio | None = None) -> Request:
        """Turn the job into a request of the library.

        Args:
            audio: of the job; at least the first `audio_seconds` of it.
            melody: that a melody model follows.

        Raises:
            RequestError: the audio ends before the prompt would start.
        """
        span = self.span(len(audio.samples), audio.sample_rate)
        return Request(
            replace(audio, samples=audio.samples[: span.frames]),
            prompt_seconds=span.prompt_seconds,
            prompt_from=span.prompt_from,
            melody=melody,
            **self._options,
        )

    # --- As JSON ----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The object that the store keeps and the worker gets."""
        quantization, recipe = self.quantization, self.quantization.recipe
        request = {name: getattr(self, name) for name in PARAMETERS}
        return {
            "kind": self.kind,
            "model": self.model,
            "quantization": quantization.mode,
            "recipe": None if recipe is None else recipe.to_json(),
            "demanded": quantization.explicit,
            "request": {
                **request,
                "texts": [*self.texts],
                "parts": [asdict(part) for part in self.parts],
                "adapters": [[each.name, each.scale] for each in self.adapters],
                "melody": self.melody,
                "notes": [*self.notes],
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> JobSpec:
        """The spec that `to_json` wrote, here or in an earlier version.

        A key that is missing has its default, a key that is not known is left alone.

        Raises:
            RequestError: MLX has no such quantization.
        """
        request, recipe = stored["request"], stored.get("recipe")
        return cls(
            kind=stored["kind"],
            model=stored["model"],
            quantization=Quantization(
                stored["quantization"],
                None if recipe is None else Recipe.from_json(recipe),
                stored.get("demanded", False),
            ),
            notes=tuple(request.get("notes", ())),
            melody=request.get("melody"),
            texts=tuple(request.get("texts", ())),
            parts=tuple(Part(**part) for part in request.get("parts", ())),
            adapters=tuple(AdapterChoice(*each) for each in request.get("adapters", ())),
            **{name: request[name] for name in _PLAIN if name in request},
        )


PARAMETERS = tuple(
    each.name
    for each in fields(JobSpec)
    if each.name not in ("kind", "model", "quantization", "adapters", "melody", "notes")
)
"""The attributes that a client sets as they are; in the JSON they lie under `request`."""

_PLAIN = tuple(name for name in PARAMETERS if name not in ("texts", "parts"))
_REQUEST_OPTIONS = tuple(name for name in PARAMETERS if name not in ("start", "prompt_seconds"))


def choose_seed(seed: int | None, variations: int, reduce: bool) -> int:
    """The seed of a job's first take; each further take counts one up.

    Args:
        seed: the client's; None or any negative number draws one.
        variations: how many takes.
        reduce: whether a seed beyond 2³² - 1 is taken modulo 2³²; without, it stays as it is.
    """
    if seed is None or seed < 0:
        return secrets.randbelow(RANDOM_SEEDS)
    return min(seed % (MAX_SEED + 1), MAX_SEED + 1 - variations) if reduce else seed
