"""What a variant costs in quality, beside a baseline.

Three questions, from the model's to the listener's:

- *Teacher-forced*: both are given the codes of real music; how far apart are their next-token
  distributions?  (`teacher_forced`, on the pieces of `judge` or on `clips`)
- *Free-running*: both continue the same prompts with the same noise; for how many frames are their
  codes the same?  (`free_running`)
- *Audio*: how different does that sound?  (`distances`)

The baseline's results are cached (`baselines`): the first variant waits for them, the next ones do
not.  There is one model in memory at a time, and one engine runs both: between two engines, all
logits differ a little, and that is not the question.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.opening import open_checkpoint
from ...engine.base import Engine
from ...errors import CheckpointError, ModelOverflowError, RequestError
from ...progress import SILENT, Progress
from ..variant import Variant
from . import free_running, teacher_forced
from .baselines import origin_of
from .judge import pieces_for
from .report import QualityReport
from .request import Measurement, QualityRequest
from .teacher_forced import Origin, Window


def measure(request: QualityRequest, progress: Progress = SILENT) -> QualityReport:
    """Measure how far a variant is from its baseline.

    On one machine, the result is the same to the last digit each time.

    Args:
        request: what is measured.
        progress: shown while it runs.

    Raises:
        AudioError: a prompt cannot be used, or a continuation cannot be written.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        RequestError: a recipe for a checkpoint that is quantized already, a variant that
            overflows, or a cache that cannot be written.
    """
    checkpoint = open_checkpoint(request.model, request.base_model, progress)
    baseline, variant = request.baseline, request.variant
    if checkpoint.config.quantization is not None and (baseline.recipe or variant.recipe):
        raise RequestError(
            f"{request.model} is quantized already; measure the checkpoint it came from"
        )
    if variant.checkpoint is not None:
        _check_alike(checkpoint, open_checkpoint(variant.checkpoint, request.base_model, progress))
    pieces = pieces_for(checkpoint, request.judge, bool(request.prompts))
    work = Measurement.prepare(request, checkpoint.config, pieces, progress)
    origin = origin_of(checkpoint, baseline, work.engine, request.text, progress)
    described, notes = _described(checkpoint, work)
    del checkpoint
    try:
        with _naming(baseline):
            windows, takes = _cache_baseline(work, origin, described)
        with _naming(variant), _LazyEngine(work, variant) as engine:
            found = teacher_forced.compare_tokens(work, windows, engine())
            found |= free_running.compare_takes(work, takes, engine())
            note = engine().text_note(request.text) if request.text else None
            notes += [] if note is None else [note]
    finally:
        work.cache.sweep()
    return QualityReport(
        model=request.model,
        engine=work.engine,
        baseline=baseline,
        variant=variant,
        seed=request.seed,
        text=request.text,
        judge="full" if pieces else "prompts" if request.prompts else "small",
        prompts=_prompts(work),
        notes=notes,
        **found,
    )


@contextmanager
def _naming(variant: Variant) -> Iterator[None]:
    """Let an overflow name which of the two models it happened in."""
    try:
        yield
    except ModelOverflowError as error:
        raise error.of(variant.name) from None


def _check_alike(origin: Checkpoint, variant: Checkpoint) -> None:
    """Refuse to compare two checkpoints of which one cannot have come from the other.

    Raises:
        RequestError: their shapes differ.
    """
    ours, theirs = origin.config, variant.config
    if (ours.lm, ours.codec) != (theirs.lm, theirs.codec):
        raise RequestError(
            f"{variant.name} has another shape than {origin.name}: it was not made from it"
        )


def _prompts(work: Measurement) -> list[dict[str, Any]]:
    """The music that distributions were compared on, as a report has it."""
    if work.pieces:
        rate = work.config.codec.frame_rate
        return [
            {"name": piece.name, "seconds": piece.codes.shape[1] / rate, "built_in": True}
            | {"text": piece.text}
            for piece in work.pieces
        ]
    built_in = not work.request.prompts
    return [
        {"name": clip.name, "seconds": seconds, "built_in": built_in}
        | ({"text": clip.text} if clip.text else {})
        for clip, seconds in zip(work.clips, work.seconds, strict=True)
    ]


def _described(checkpoint: Checkpoint, work: Measurement) -> tuple[Origin | None, list[str]]:
    """What decides the baseline's logits with the music's own words, and notes.

    None where there are no words, where the request has its own for all, or no text encoder.
    """
    texts = [piece.text for piece in work.pieces] or [clip.text for clip in work.clips]
    if work.request.text or not any(texts):
        return None, []
    try:
        words = "\n".join(texts)
        origin = origin_of(checkpoint, work.request.baseline, work.engine, words, work.progress)
    except CheckpointError as error:
        return None, [f"measured without text alone: {error}"]
    return origin, []


def _cache_baseline(
    work: Measurement, origin: Origin, described: Origin | None
) -> tuple[Sequence[Sequence[Window]], dict[int, str]]:
    """Make sure that the cache holds everything that is compared with.

    Returns:
        The windows of each prompt, and the keys of the takes of those clips that are continued.
    """
    windows: list[list[Window]] = []
    takes: dict[int, str] = {}
    continued = work.continued()
    with (
        _LazyEngine(work, work.request.baseline) as engine,
        work.progress.stage(
            "measure the baseline", len(work.pieces) + len(work.clips), "prompts"
        ) as advance,
    ):
        for n, piece in enumerate(work.pieces):
            windows.append(teacher_forced.cache_piece(work, origin, described, piece, engine))
            advance(n + 1)
        for n, clip in enumerate(work.clips):
            samples = clip.samples(work.config)
            if not work.pieces:
                windows.append(
                    teacher_forced.cache_clip(work, origin, described, samples, clip.text, engine)
                )
            if n in continued:
                takes[n] = free_running.cache_takes(work, origin, samples, engine)
            advance(len(work.pieces) + n + 1)
    return windows, takes


class _LazyEngine:
    """The engine of a variant, loaded by the first call and released at the end."""

    def __init__(self, work: Measurement, variant: Variant) -> None:
        self._work, self._variant = work, variant
        self._engine: Engine | None = None

    def __enter__(self) -> _LazyEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine = None
        gc.collect()  # an engine refers to itself, and the next one needs its memory

    def __call__(self) -> Engine:
        if self._engine is None:
            request, work = self._work.request, self._work
            model = self._variant.load(
                request.model, request.base_model, work.engine, work.progress
            )
            self._engine = model.engine
        return self._engine
