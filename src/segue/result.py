"""What came of a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .audio import Audio
from .bars import Grid


@dataclass(frozen=True, eq=False)
class Take:
    """One continuation.

    Attributes:
        seed: that its tokens were sampled with.
        audio: the result, at the rate and with the channels of the request's audio.
        codes: `(K, F)`, prompt and continuation.
        played: `codes` as the codec decodes them, as `audio` without what lies before the prompt:
            the prompt as it was encoded, then the continuation.
        text: that it was described with; blank for none.
    """

    seed: int
    audio: Audio
    codes: np.ndarray
    played: Audio
    text: str = ""


@dataclass(frozen=True)
class PlayedPart:
    """A stretch of every take that has a text of its own.

    Attributes:
        text: that it was played with; None where takes have texts of their own.
        start, stop: samples of the take's audio.
        seeds: of the takes there.
    """

    text: str | None
    start: int
    stop: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a request.

    Attributes:
        takes: one for each variation.
        join: the sample of every take's audio where the continuation starts; 0 without a prompt.
        prompt_frames, new_frames: of the codec.
        guided: whether guidance ran, for any take.
        timings: seconds of each part: `prompt_encode_s`, `text_encode_s`, `prefill_s`,
            `token_generate_s`, `decode_full_s`.
        steps: decode steps that were run, each for all takes at once.
        notes: what the user should know, one line each.
        loop: the sample of every take's audio where the prompt starts: from there to the end it is
            whole bars where the request has a tempo.
        grid: the tempo, and where in every take's audio the bars lie; None without a tempo.
        parts: the continuation, and the parts behind it.
    """

    takes: tuple[Take, ...]
    join: int
    prompt_frames: int
    new_frames: int
    guided: bool
    timings: dict[str, float]
    steps: int
    notes: tuple[str, ...] = ()
    loop: int = 0
    grid: Grid | None = None
    parts: tuple[PlayedPart, ...] = ()
