"""What numbers alone decide of a request: before a model is loaded, before audio is read.

Pure functions.  `Request` and `Continuation` call them with the audio and the engine at hand; the
service calls them before it accepts a job, so that what cannot be is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import AudioError, RequestError

FRAME_RATE = 50
"""Frames a second of MusicGen's codec: 32 kHz with a stride of 640 (arXiv 2306.05284, section 3.1).
For those who cannot ask the model yet; the engine's own configuration counts when it runs."""

SAMPLE_RATE = 32_000
"""Of the same codec, in Hz; likewise."""

MAX_SEED = 2**32 - 1
MAX_OUTPUT_SECONDS = 3600.0
MAX_VARIATIONS = 64

PromptFrom = Literal["start", "end"]


def check_options(
    *,
    prompt_seconds: float,
    output_seconds: float,
    prompt_from: str,
    text: str,
    top_k: int,
    temperature: float,
    guidance_coef: float,
    seed: int | None,
    variations: int,
    extend_stride: float | None = None,
    top_p: float = 0.0,
    texts: Sequence[str] = (),
    prompted: bool = True,
) -> None:
    """Check the options of a request; see `Request` for what they mean.

    `prompted` says whether there is audio to continue.

    Raises:
        RequestError: one is out of range, or two contradict each other.
    """

    def demand(holds: bool, line: str) -> None:
        if not holds:
            raise RequestError(line)

    demand(
        0 < prompt_seconds < float("inf") or (not prompted and prompt_seconds == 0),
        f"prompt-seconds must be more than 0, not {prompt_seconds:g}",
    )
    demand(
        0 < output_seconds <= MAX_OUTPUT_SECONDS,
        f"output-seconds must be more than 0 and at most {MAX_OUTPUT_SECONDS:g}, "
        f"not {output_seconds:g}",
    )
    demand(prompt_from in ("start", "end"), "prompt_from is 'start' or 'end'")
    demand(top_k >= 0, f"top-k must be 0 (all) or more, not {top_k}")
    demand(0 <= top_p <= 1, f"top-p must lie between 0 (off) and 1, not {top_p:g}")
    demand(
        0 <= temperature <= 100,
        f"temperature must lie between 0 and 100, not {temperature:g}",
    )
    demand(
        -100 <= guidance_coef <= 100,
        f"guidance-coef must lie between -100 and 100, not {guidance_coef:g}",
    )
    demand(
        1 <= variations <= MAX_VARIATIONS,
        f"variations must lie between 1 and {MAX_VARIATIONS}, not {variations}",
    )
    demand(
        extend_stride is None or 0 < extend_stride < float("inf"),
        f"extend-stride must be more than 0, not {extend_stride}",
    )
    if seed is not None:
        demand(
            seed >= 0 and seed + variations - 1 <= MAX_SEED,
            f"seeds lie between 0 and {MAX_SEED}; {seed} with {variations} variations does not",
        )
    demand(not (text and texts), "name text or texts, not both")
    variations_for(texts, variations)
    demand(
        not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in "".join([text, *texts])),
        "the text holds characters that are none: a zero byte, or what is not UTF-8",
    )


def variations_for(texts: Sequence[str], variations: int | None) -> int:
    """How many takes there are: as many as was asked for, else as many as there are texts.

    Args:
        texts: of the takes; one is that of all.
        variations: as many as was asked for, or None.

    Raises:
        RequestError: there are neither one nor as many texts.
    """
    wanted = max(1, len(texts)) if variations is None else variations
    if len(texts) > 1 and len(texts) != wanted:
        raise RequestError(
            f"{len(texts)} texts and {wanted} variation{'s' if wanted != 1 else ''}: name one text "
            "for all, or one for each"
        )
    return wanted


@dataclass(frozen=True)
class Plan:
    """Where the prompt lies, and how much is to be generated.

    Attributes:
        start: first sample of the prompt, in the user's audio.
        join: first sample behind the prompt, where the continuation starts.
        prompt_frames: of the codec; none where there is no prompt.
        total_frames: of prompt and continuation together; more than `prompt_frames`.
        notes: what the user should know, one line each.
    """

    start: int
    join: int
    prompt_frames: int
    total_frames: int
    notes: tuple[str, ...] = ()


def plan(
    samples: int,
    sample_rate: int,
    frame_rate: int = FRAME_RATE,
    *,
    prompt_seconds: float,
    output_seconds: float,
    prompt_from: PromptFrom,
) -> Plan:
    """Lay a request out over audio of `samples` samples per channel.

    The prompt is a whole number of frames long.

    Args:
        samples: length of the audio, in samples per channel.
        sample_rate: of the audio, in Hz.
        frame_rate: of the codec, in frames a second.
        prompt_seconds: how much of the audio the model is given, at most; 0 where there is none.
        output_seconds: length of prompt and continuation together.
        prompt_from: which end of the audio the prompt is.

    Raises:
        AudioError: the audio is shorter than one frame.
        RequestError: the prompt is shorter than one frame, or leaves nothing to generate; or there
            is audio, and nothing of it is the prompt.
    """
    total_frames = int(output_seconds * frame_rate)  # as AudioCraft counts
    if prompt_seconds == samples == 0:
        if total_frames == 0:
            raise RequestError(
                f"output-seconds of {output_seconds:g} is less than one frame "
                f"({1 / frame_rate:g} s)"
            )
        return Plan(0, 0, 0, total_frames)
    wanted = _frames(round(prompt_seconds * sample_rate), sample_rate, frame_rate)
    there = _frames(samples, sample_rate, frame_rate)
    if wanted == 0:
        raise RequestError(
            f"prompt-seconds of {prompt_seconds:g} is less than one frame ({1 / frame_rate:g} s)"
        )
    if there == 0:
        raise AudioError(
            f"the audio is too short: {samples / sample_rate:.3g} s, and one frame of the codec is "
            f"{1 / frame_rate:g} s"
        )
    notes = []
    if there < wanted:
        notes.append(
            f"the audio is shorter than the {prompt_seconds:g} s asked for: "
            f"the prompt is {there / frame_rate:g} s"
        )
    # At most: three frames at 11 025 Hz are 661.5 samples, and 661 count as three.
    length = min(round(min(wanted, there) * sample_rate / frame_rate), samples)
    start = 0 if prompt_from == "start" else samples - length
    prompt_frames = _frames(length, sample_rate, frame_rate)
    if total_frames <= prompt_frames:
        raise RequestError(
            f"nothing to play: the prompt has {prompt_frames / frame_rate:g} s, prompt "
            f"and continuation together shall have {output_seconds:g}; "
            "raise output-seconds or lower prompt-seconds"
        )
    return Plan(start, start + length, prompt_frames, total_frames, tuple(notes))


def stride_frames(
    extend_stride: float | None, default: int, window: int, frame_rate: int = FRAME_RATE
) -> int:
    """Frames by which the window moves when it is full.

    Args:
        extend_stride: in seconds, as it was requested; None for the model's own.
        default: the model's own, in frames.
        window: of the model, in frames.
        frame_rate: of the codec, in frames a second.

    Raises:
        RequestError: it is less than a frame, or as long as the window.
    """
    frames = default if extend_stride is None else int(frame_rate * extend_stride)
    if not 0 < frames < window:
        raise RequestError(
            f"extend-stride of {extend_stride:g} must be a frame ({1 / frame_rate:g} s) or more, "
            f"and less than the model's window of {window / frame_rate:g} s"
        )
    return frames


def windows(prompt: int, total: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Lay out the windows in which a model generates more than it hears at once.

    The first begins with the prompt, and each next one `stride` frames later, as AudioCraft does
    it.  A prompt that fills a window, which AudioCraft refuses, is heard from its end: as much as
    leaves room for what is to be generated, or for one stride.

    Args:
        prompt: frames of the prompt.
        total: frames of all, more than those.
        window: frames that the model hears at once.
        stride: frames by which a full window moves, fewer than those.

    Returns:
        The first frame of each, and the one behind its last.
    """
    start = 0 if prompt < window else prompt - window + min(stride, total - prompt)
    found: list[tuple[int, int]] = []
    while not found or found[-1][1] < total:
        found.append((start, min(start + window, total)))
        start += stride
    return found


def _frames(samples: int, sample_rate: int, frame_rate: int) -> int:
    """Whole frames in so many samples of the user's audio."""
    # Counted in integers: 6 s at 11 025 Hz must not lose a frame to rounding.
    return (samples * frame_rate + frame_rate // 2) // sample_rate
