"""What numbers alone decide of a request: before a model is loaded, before audio is read.

Pure functions.  `Request` and `Continuation` call them with the audio and the engine at hand; the
service calls them before it accepts a job, so that what cannot be is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .bars import check_timing
from .errors import RequestError

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
    seconds: float | None = None,
    bpm: float | None = None,
    beats_per_bar: float = 4.0,
    downbeat: float = 0.0,
    bars: float | None = None,
    prompt_bars: float | None = None,
    snap: str = "bar",
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
    demand(
        seconds is None or 0 < seconds <= MAX_OUTPUT_SECONDS,
        f"seconds must be more than 0 and at most {MAX_OUTPUT_SECONDS:g}, not {seconds}",
    )
    demand(
        seconds is None or bars is None,
        "seconds and bars both say how long the continuation is; drop one",
    )
    check_timing(
        bpm=bpm,
        beats_per_bar=beats_per_bar,
        downbeat=downbeat,
        bars=bars,
        prompt_bars=prompt_bars,
        snap=snap,
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
