"""What is known of a job before it is accepted, from its parameters and the length of its audio.

The process that plays calls the same functions, so what is accepted here does not fail there.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from ...admission import MAX_SEED, Plan, PromptFrom, check_options, plan
from ...errors import RequestError

DRAWN_SEEDS = 100_000
"""How many there are to draw from, from 0: musicians read a seed off, and type it."""


_OPTIONS = (
    "prompt_seconds",
    "output_seconds",
    "text",
    "top_k",
    "temperature",
    "guidance_coef",
    "seed",
    "variations",
)


@dataclass(frozen=True)
class Cut:
    """What of a job's audio counts: all up to where the prompt ends.

    Attributes:
        frames: samples per channel, from the start of the audio.
        prompt_seconds: how long the prompt is, at most.
        prompt_from: at which end of what is kept the prompt lies.
    """

    frames: int
    prompt_seconds: float
    prompt_from: PromptFrom


def cut(frames: int, sample_rate: int, start: float | None, prompt_seconds: float) -> Cut:
    """What counts of audio of `frames` samples per channel.

    Args:
        frames: of the whole audio.
        sample_rate: of the audio, in Hz.
        start: where the prompt begins, in seconds; None puts it at the end of the audio.
        prompt_seconds: how long it shall be.

    Raises:
        RequestError: the audio ends before the prompt would start.
    """
    if start is None:
        return Cut(frames, prompt_seconds, "end")
    kept = round(min(frames, (start + prompt_seconds) * sample_rate))
    if start == 0:
        return Cut(kept, prompt_seconds, "start")
    left = kept / sample_rate - start
    if left <= 0:
        raise RequestError(
            f"the prompt cannot start at {start:g} s: the audio is {frames / sample_rate:.3g} s "
            "long"
        )
    return Cut(kept, min(prompt_seconds, left), "end")


def check(request: dict[str, Any]) -> None:
    """Check what needs no audio of the `request` of a job; see `Generator.generate`.

    Raises:
        RequestError: an option is out of range, or two contradict each other.
    """
    check_options(**{name: request[name] for name in _OPTIONS}, prompt_from="start")


def planned(request: dict[str, Any], frames: int, sample_rate: int) -> Plan:
    """How the `request` of a job will be laid out over its audio.

    Args:
        request: see `Generator.generate`.
        frames: samples per channel of the audio.
        sample_rate: of the audio, in Hz.

    Raises:
        AudioError: the audio is shorter than one frame of the codec.
        RequestError: the prompt lies behind the audio, or nothing is left to generate.
    """
    kept = cut(frames, sample_rate, request["start"], request["prompt_seconds"])
    return plan(
        kept.frames,
        sample_rate,
        prompt_seconds=kept.prompt_seconds,
        output_seconds=request["output_seconds"],
        prompt_from=kept.prompt_from,
    )


def seed_for(seed: int | None, variations: int, reduced: bool) -> int:
    """The seed that a job will use, of its first take; each further take counts one up.

    Args:
        seed: what was asked for; None or any negative number draws one.
        variations: how many takes.
        reduced: whether a seed beyond 2³² - 1 is taken modulo 2³²; without, it stays as it is.
    """
    if seed is None or seed < 0:
        return secrets.randbelow(DRAWN_SEEDS)
    return min(seed % (MAX_SEED + 1), MAX_SEED + 1 - variations) if reduced else seed
