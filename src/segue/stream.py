"""A continuation as a stream of sound, while it is generated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .audio import fit
from .continuation import Continuation, Request
from .engine.base import Engine
from .errors import RequestError
from .preview import Preview
from .progress import SILENT, Progress
from .splice import splice


def stream(engine: Engine, request: Request, progress: Progress = SILENT) -> Iterator[np.ndarray]:
    """Continue a request's prompt, and yield the sound of the continuation while it is generated.

    The first chunk is cross-faded from the prompt as a result is, and each chunk from the one
    before, so the chunks put behind the prompt play without a click.  All of them together are as
    long as the continuation of `continue_audio`, and sound like it, but are not equal to it
    sample by sample: each is decoded without knowing what comes after it.

    Args:
        engine: what runs the checkpoint.
        request: of one variation.
        progress: shown while it runs.

    Yields:
        `(T, C)` float32 at the rate and with the channels of the request's audio: the first of
        about one second, then two.  Generation waits while nobody asks for the next.

    Raises:
        AudioError: the prompt cannot be used.
        RequestError: options contradict each other, or there is more than one variation.
    """
    if request.variations != 1:
        raise RequestError(f"a stream has one variation, not {request.variations}")
    return _chunks(engine, Continuation(engine, request, progress))


def _chunks(engine: Engine, continuation: Continuation) -> Iterator[np.ndarray]:
    prompt = continuation.prompt
    audio = continuation.request.audio
    prompt_frames = continuation.prompt_codes.shape[1]
    preview = Preview(engine, prompt_frames, audio.sample_rate, audio.channels, audio.layout)
    total = continuation.new_samples
    done = 0
    for _ in continuation.frames():
        last = continuation.codes.shape[2] == continuation.total_frames
        decoded = preview.more(continuation.codes, last)
        if decoded is None:
            continue
        # Resamplers round to whole samples; what comes out is as long as the result would be.
        chunk = fit(decoded[0], total - done) if last else decoded[0]
        if done == 0:
            whole = np.concatenate([prompt.astype(np.float32), chunk])
            chunk = splice(whole[: len(prompt)], whole, audio.sample_rate)[len(prompt) :]
        done += len(chunk)
        yield chunk
