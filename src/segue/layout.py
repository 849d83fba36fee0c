"""Lay a request out: where its prompt lies, how many frames there are, and in which windows.

Pure functions.  `Continuation` calls them with the audio and the engine at hand; the service before
it accepts a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .admission import FRAME_RATE, MAX_OUTPUT_SECONDS, PromptFrom
from .bars import Timing, lay_out, part_seconds
from .errors import AudioError, RequestError
from .request import Request


@dataclass(frozen=True)
class Plan:
    """Where the prompt lies, and how much is to be generated.

    Attributes:
        start: first sample of the user's audio that is encoded.
        join: first sample behind the prompt, where the continuation starts.
        prompt_frames: of the codec; none where there is no prompt.
        total_frames: of prompt and continuation together; more than `prompt_frames`.
        notes: what the user should know, one line each.
        first: first sample of the user's audio that the result holds.
        loop: where the prompt begins, from which on the result can be a loop; `start`, or less
            than a frame before it.
        stop: where the result ends; None where its last frame does.
        seconds: from `loop` to there, before it was rounded; 0 where there is no tempo.
        part_frames: where the continuation and each part behind it end; the last is `total_frames`.
        part_stops: the same as samples of the user's audio.
    """

    start: int
    join: int
    prompt_frames: int
    total_frames: int
    notes: tuple[str, ...] = ()
    first: int = 0
    loop: int = 0
    stop: int | None = None
    seconds: float = 0.0
    part_frames: tuple[int, ...] = ()
    part_stops: tuple[int, ...] = ()


def plan(
    samples: int,
    sample_rate: int,
    frame_rate: int = FRAME_RATE,
    *,
    prompt_seconds: float,
    output_seconds: float,
    prompt_from: PromptFrom,
    seconds: float | None = None,
    timing: Timing | None = None,
) -> Plan:
    """Lay a request out over audio of `samples` samples per channel.

    What is encoded of the prompt is a whole number of frames long.  So is the prompt itself, unless
    there is a tempo, by which it ends.

    Args:
        samples: length of the audio, in samples per channel.
        sample_rate: of the audio, in Hz.
        frame_rate: of the codec, in frames a second.
        prompt_seconds: how much of the audio the model is given, at most; 0 where there is none.
        output_seconds: length of prompt and continuation together.
        prompt_from: which end of the audio the prompt is.
        seconds: length of the continuation, in the place of `output_seconds`.
        timing: beats and bars, where there is a tempo; see `segue.bars`.

    Raises:
        AudioError: the audio is shorter than one frame, or than what is snapped to.
        RequestError: the prompt is shorter than one frame, or leaves nothing to generate; or there
            is audio, and nothing of it is the prompt.
    """
    if timing is not None:
        return _plan_bars(
            samples,
            sample_rate,
            frame_rate,
            timing,
            prompt_seconds,
            output_seconds,
            seconds,
            prompt_from,
        )

    def total(prompt_frames: int) -> int:
        if seconds is not None:
            return prompt_frames + round(seconds * frame_rate)
        return int(output_seconds * frame_rate)  # as AudioCraft counts

    if prompt_seconds == samples == 0:
        if total(0) == 0:
            length = output_seconds if seconds is None else seconds
            raise RequestError(
                f"output-seconds of {length:g} is less than one frame ({1 / frame_rate:g} s)"
            )
        return Plan(0, 0, 0, total(0))
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
    total_frames = total(prompt_frames)
    if total_frames <= prompt_frames:
        if seconds is not None:
            raise RequestError(f"seconds of {seconds:g} is less than one frame")
        raise RequestError(
            f"nothing to play: the prompt has {prompt_frames / frame_rate:g} s, prompt "
            f"and continuation together shall have {output_seconds:g}; "
            "raise output-seconds or lower prompt-seconds"
        )
    return Plan(start, start + length, prompt_frames, total_frames, tuple(notes), loop=start)


def _plan_bars(
    samples: int,
    sample_rate: int,
    frame_rate: int,
    timing: Timing,
    prompt_seconds: float,
    output_seconds: float,
    seconds: float | None,
    prompt_from: PromptFrom,
) -> Plan:
    """As `plan`, on a grid: beats are no whole frames, so frames are counted from the join."""
    span = lay_out(
        samples,
        sample_rate,
        timing,
        prompt_seconds=prompt_seconds,
        output_seconds=output_seconds,
        seconds=seconds,
        prompt_from=prompt_from,
    )
    prompt_frames = (span.join - span.start) * frame_rate // sample_rate
    if samples > 0 and prompt_frames == 0:
        raise RequestError(
            f"a prompt of {(span.join - span.start) / sample_rate:.3g} s is less than one frame of "
            f"the codec ({1 / frame_rate:g} s)"
        )
    start = span.join - round(prompt_frames * sample_rate / frame_rate)
    total_frames = prompt_frames + (span.stop - span.join) * frame_rate // sample_rate
    while start + round(total_frames * sample_rate / frame_rate) < span.stop:
        total_frames += 1
    if total_frames > MAX_OUTPUT_SECONDS * frame_rate:
        raise RequestError(
            f"prompt and continuation would be {total_frames / frame_rate:.0f} s long; at most "
            f"{MAX_OUTPUT_SECONDS:g} can be"
        )
    return Plan(
        start=start,
        join=span.join,
        prompt_frames=prompt_frames,
        total_frames=total_frames,
        notes=span.notes,
        first=span.first,
        loop=span.start,
        stop=span.stop,
        seconds=span.seconds,
    )


def plan_request(request: Request, frame_rate: int = FRAME_RATE) -> Plan:
    """Lay a whole request out, with its parts.

    Raises:
        AudioError: see `plan`.
        RequestError: see there.
    """
    audio = request.audio
    laid_out = plan(
        len(audio.samples),
        audio.sample_rate,
        frame_rate,
        prompt_seconds=request.prompt_seconds,
        output_seconds=request.output_seconds,
        prompt_from=request.prompt_from,
        seconds=request.seconds,
        timing=request.timing,
    )
    lengths = [(part.seconds, part.bars) for part in request.parts]
    return with_parts(laid_out, lengths, audio.sample_rate, frame_rate, request.timing)


def with_parts(
    laid_out: Plan,
    lengths: Sequence[tuple[float | None, float | None]],
    sample_rate: int,
    frame_rate: int,
    timing: Timing | None,
) -> Plan:
    """Lay out the parts behind a continuation.

    With a tempo they end on the grid, too, each to the nearest sample; texts change with the
    nearest frame, and the last frame covers the last sample.

    Args:
        laid_out: the continuation, as `plan` has it.
        lengths: seconds or bars of each part; one of both is None.
        sample_rate: of the audio, in Hz.
        frame_rate: of the codec, in frames a second.
        timing: see `plan`.

    Raises:
        RequestError: it becomes too long.
    """
    ends, stop, length = [laid_out.total_frames], laid_out.stop, laid_out.seconds
    stops = [stop]
    if timing is not None and lengths:
        ends = [_nearest_frame(laid_out, laid_out.stop or 0, sample_rate, frame_rate)]
    for seconds, bars in lengths:
        if timing is None:
            ends.append(ends[-1] + max(1, round((seconds or 0.0) * frame_rate)))
            stops.append(None)
            continue
        length += part_seconds(timing, seconds, bars)
        stop = laid_out.loop + round(length * sample_rate)
        ends.append(_nearest_frame(laid_out, stop, sample_rate, frame_rate))
        stops.append(stop)
        if ends[-1] <= ends[-2]:
            raise RequestError(f"part {len(ends) - 1} is less than one frame of the codec")
    while stop is not None and _sample(laid_out, ends[-1], sample_rate, frame_rate) < stop:
        ends[-1] += 1
    if ends[-1] > MAX_OUTPUT_SECONDS * frame_rate:
        raise RequestError(
            f"all parts together would be {ends[-1] / frame_rate:.0f} s long; at most "
            f"{MAX_OUTPUT_SECONDS:g} can be"
        )
    part_stops = tuple(
        _sample(laid_out, end, sample_rate, frame_rate) if found is None else found
        for end, found in zip(ends, stops, strict=True)
    )
    return replace(
        laid_out,
        total_frames=ends[-1],
        stop=stop,
        part_frames=tuple(ends),
        part_stops=part_stops,
    )


def _sample(laid_out: Plan, frame: int, sample_rate: int, frame_rate: int) -> int:
    """Where a frame begins, in the user's audio."""
    return laid_out.start + round(frame * sample_rate / frame_rate)


def _nearest_frame(laid_out: Plan, sample: int, sample_rate: int, frame_rate: int) -> int:
    """The frame that begins nearest to a sample, behind the prompt."""
    nearest = round((sample - laid_out.start) * frame_rate / sample_rate)
    return max(laid_out.prompt_frames + 1, nearest)


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
