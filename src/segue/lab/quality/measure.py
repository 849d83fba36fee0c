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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.opening import open_checkpoint
from ...engine.base import Engine
from ...errors import CheckpointError, ModelOverflowError, RequestError
from ...progress import SILENT, Progress
from ..variant import Variant
from .baselines import origin_of
from .chunks import Chunk, Found, KeptChunks, chunks_of
from .free_running import cache_takes, compare_takes, summarise_takes
from .judge import pieces_for
from .report import QualityReport
from .request import Measurement, QualityRequest
from .teacher_forced import (
    Origin,
    Window,
    cache_clip,
    cache_piece,
    compare_tokens,
    summarise_tokens,
)


def measure(
    request: QualityRequest, progress: Progress = SILENT, keep: Path | None = None
) -> QualityReport:
    """Measure how far a variant is from its baseline.

    On one machine, the result is the same to the last digit each time.

    Args:
        request: what is measured.
        progress: shown while it runs.
        keep: a folder for what is found of some prompts before all are measured, and is not
            measured again then.

    Raises:
        AudioError: a prompt cannot be used, or a continuation cannot be written.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        RequestError: a recipe for a checkpoint that is quantized already, a variant that
            overflows, or a cache that cannot be written.
    """
    subject = Subject.prepare(request, progress)
    kept = None if keep is None else KeptChunks(keep, subject.work)
    found = [None if kept is None else kept.read(chunk) for chunk in subject.chunks]
    left = [chunk for chunk, known in zip(subject.chunks, found, strict=True) if known is None]
    for chunk, new in measure_chunks(subject, left):
        found[chunk.number] = new
        if kept is not None:
            kept.write(chunk, new)
    return report_of(subject.work, [each for each in found if each is not None])


@dataclass(frozen=True)
class Subject:
    """What is measured, opened and checked.

    Attributes:
        checkpoint: that the variant is made from.
        work: the request, and the music.
        chunks: of the music.
    """

    checkpoint: Checkpoint
    work: Measurement
    chunks: list[Chunk]

    @classmethod
    def prepare(
        cls,
        request: QualityRequest,
        progress: Progress = SILENT,
        seconds: Sequence[float] | None = None,
    ) -> Subject:
        """Open the checkpoint, and find and check the music.

        Args, and what is raised, are those of `measure` and `Measurement.prepare`.
        """
        checkpoint = open_checkpoint(request.model, request.base_model, progress)
        baseline, variant = request.baseline, request.variant
        if checkpoint.config.quantization is not None and (baseline.recipe or variant.recipe):
            raise RequestError(
                f"{request.model} is quantized already; measure the checkpoint it came from"
            )
        if variant.checkpoint is not None:
            its = open_checkpoint(variant.checkpoint, request.base_model, progress)
            _check_alike(checkpoint, its)
        pieces = pieces_for(checkpoint, request.judge, bool(request.prompts))
        work = Measurement.prepare(request, checkpoint.config, pieces, progress, seconds)
        return cls(checkpoint, work, chunks_of(len(pieces), len(work.clips), work.continued()))


def measure_chunks(subject: Subject, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Found]]:
    """Measure some chunks, and yield what is found of each; see `measure` for what is raised.

    The baseline's part of all of them comes first: one model is in memory at a time.
    """
    if not chunks:
        return
    work, request = subject.work, subject.work.request
    origin = origin_of(
        subject.checkpoint, request.baseline, work.engine, request.text, work.progress
    )
    described, notes = _described(subject.checkpoint, work)
    try:
        with _naming(request.baseline):
            cached = _cache_baseline(work, chunks, origin, described)
        with (
            _naming(request.variant),
            _LazyEngine(work, request.variant) as engine,
            work.progress.stage("compare with the baseline", len(cached), "prompts") as advance,
        ):
            note = engine().text_note(request.text) if request.text else None
            notes += [] if note is None else [note]
            done = 0
            for chunk in chunks:
                found = Found([], [], notes)
                for kind, n in _prompts_of(chunk):
                    windows, takes = cached[kind, n]
                    if windows:
                        found.tokens.append(compare_tokens(work, windows, engine()))
                    if takes is not None:
                        found.takes.append(compare_takes(work, n, takes, engine()))
                    done += 1
                    advance(done)
                yield chunk, found
    finally:
        work.cache.sweep()


def report_of(work: Measurement, found: Sequence[Found]) -> QualityReport:
    """Put together what was found of all chunks, in their order."""
    request = work.request
    return QualityReport(
        model=request.model,
        engine=work.engine,
        baseline=request.baseline,
        variant=request.variant,
        seed=request.seed,
        text=request.text,
        judge="full" if work.pieces else "prompts" if request.prompts else "small",
        prompts=_prompts(work),
        notes=found[0].notes,
        **summarise_tokens([tokens for each in found for tokens in each.tokens]),
        **summarise_takes(work, [takes for each in found for takes in each.takes]),
    )


def _prompts_of(chunk: Chunk) -> list[tuple[str, int]]:
    """The kind and the number of each prompt."""
    return [("piece", n) for n in chunk.pieces] + [("clip", n) for n in chunk.clips]


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
    work: Measurement, chunks: Sequence[Chunk], origin: Origin, described: Origin | None
) -> dict[tuple[str, int], tuple[Sequence[Window], str | None]]:
    """Make sure that the cache holds everything that chunks are compared with.

    Returns:
        For each prompt its windows, and the key of its takes if it is continued.
    """
    cached: dict[tuple[str, int], tuple[Sequence[Window], str | None]] = {}
    continued = work.continued()
    prompts = [prompt for chunk in chunks for prompt in _prompts_of(chunk)]
    with (
        _LazyEngine(work, work.request.baseline) as engine,
        work.progress.stage("measure the baseline", len(prompts), "prompts") as advance,
    ):
        for kind, n in prompts:
            windows: Sequence[Window] = ()
            takes = None
            if kind == "piece":
                windows = cache_piece(work, origin, described, work.pieces[n], engine)
            else:
                clip = work.clips[n]
                samples = clip.samples(work.config)
                if not work.pieces:
                    windows = cache_clip(work, origin, described, samples, clip.text, engine)
                if n in continued:
                    takes = cache_takes(work, origin, samples, engine)
            cached[kind, n] = windows, takes
            advance(len(cached))
    return cached


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
