"""What a variant costs in quality, beside a baseline.

Three questions, from the model's to the listener's:

- *Teacher-forced*: both hear the codes of real music; how far apart are their next-token
  distributions?  (`teacher_forced`)
- *Free-running*: both play on from the same prompts with the same noise; for how many frames do
  they play the same?  (`free_running`)
- *Audio*: how different does that sound?  (`distances`)

The baseline's answers are kept (`baselines`): the first variant waits for them, the next ones do
not.  There is one model in memory at a time, and one engine runs both: between two engines, all
logits differ a little, and that is not what is asked.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...checkpoints.opening import open_checkpoint
from ...engine.base import Engine
from ...errors import ModelOverflowError, RequestError
from ...model import engine_for
from ...progress import SILENT, Progress
from ..variant import Variant
from . import free_running, teacher_forced
from .baselines import BaselineCache, origin_of
from .clips import find_clips
from .request import Plan

SCHEMA = 1

TAKES = 2
CONTINUATION_SECONDS = 6.0


def measure(
    baseline: Variant,
    variant: Variant,
    model: str,
    base_model: str | None,
    prompts: Sequence[Path],
    seed: int,
    folder: Path | None,
    progress: Progress = SILENT,
    *,
    engine: str = "auto",
    text: str = "",
    takes: int = TAKES,
    continuation_seconds: float = CONTINUATION_SECONDS,
) -> dict[str, Any]:
    """How far `variant` is from `baseline`; the same on the same machine to the last digit.

    Args:
        baseline: what counts as right, mostly the checkpoint as it is.
        variant: what is measured.
        model: the checkpoint; see `segue.load`.
        base_model: see `segue.load`.
        prompts: files and folders of music that the model was not trained on; none means segue's
            own.
        seed: of the first take of each prompt.
        folder: where what was played is written; None keeps no sound.
        progress: shown while it runs.
        engine: what runs both; see `segue.load`.
        text: a description that both models read.  Logits are compared without guidance; what is
            played has it, as it has for users.
        takes: continuations of each prompt, with the seeds `seed`, `seed + 1` and so on.
        continuation_seconds: their length without the prompt.

    Returns:
        What `json.dump` takes:

        - `schema`, `model`, `engine`, `baseline`, `variant`, `seed`, `text`: what was measured.
        - `prompts`: `name` and `seconds` heard of each, and whether it is `built_in`.
        - `notes`: what one should know, one line each; only where there is something.
        - `tokens`: how many were `counted`, in how many `frames`, `codebooks` and `windows`; the
          `context_frames` that were not, and the bootstrap's blocks.
        - `kl`: nats per token, KL(baseline || variant); for `overall`, `codebook_0` and so on
          `mean`, its `ci95`, `median`, `p99` and `max`.
        - `top1_agreement`: the share of tokens, as `mean` and `ci95`.
        - `perplexity`: of the codes that follow: `baseline`, `variant`, their `ratio` and its
          `ci95`.
        - `free_running`: of the `takes`, each with the `frames` that were played alike, or
          `censored` if all of `limit_frames` were: `mean_frames`, its `ci95` and `median_frames`.
        - `audio`: the mean over takes of each of `free_running.MEASURES`, of loudness differences
          without their sign; the same `between_seeds`, that is between the baseline's takes, to
          compare with; and each of the `takes`, with the names of its `files` if there is a folder.

    Raises:
        AudioError: a prompt cannot be used, or what was played cannot be written.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        RequestError: an option is out of range, a recipe for a checkpoint that is quantized
            already, a variant that overflows, or a cache that cannot be written.
    """
    engine = engine_for(engine)
    checkpoint = open_checkpoint(model, base_model, progress)
    if checkpoint.config.quantization is not None and (baseline.recipe or variant.recipe):
        raise RequestError(f"{model} is quantized already; measure the checkpoint it came from")
    plan = Plan(
        baseline=baseline,
        variant=variant,
        model=model,
        base_model=base_model,
        engine=engine,
        config=checkpoint.config,
        clips=find_clips(prompts),
        seed=seed,
        text=text,
        takes=takes,
        continuation_seconds=continuation_seconds,
        folder=folder,
        cache=BaselineCache(),
        progress=progress,
    )
    seconds = plan.check()
    origin = origin_of(checkpoint, baseline, engine, text, progress)
    del checkpoint
    try:
        with _naming(baseline):
            heard, played = _listen_to_baseline(plan, origin)
        with _naming(variant), _Loaded(plan, variant) as loaded:
            found = teacher_forced.compare_tokens(plan, heard, loaded.engine())
            found |= free_running.compare_takes(plan, played, loaded.engine())
            note = loaded.engine().text_note(text) if text else None
    finally:
        plan.cache.sweep()
    return (
        {
            "schema": SCHEMA,
            "model": model,
            "engine": engine,
            "baseline": {"name": baseline.name} | baseline.to_json(),
            "variant": {"name": variant.name} | variant.to_json(),
            "seed": seed,
            "text": text,
            "prompts": [
                {"name": clip.name, "seconds": length, "built_in": not prompts}
                for clip, length in zip(plan.clips, seconds, strict=True)
            ],
        }
        | ({} if note is None else {"notes": [note]})
        | found
    )


@contextmanager
def _naming(variant: Variant) -> Iterator[None]:
    """Say which of the two it is that overflows."""
    try:
        yield
    except ModelOverflowError as error:
        raise error.of(variant.name) from None


def _listen_to_baseline(
    plan: Plan, origin: dict[str, Any]
) -> tuple[list[list[str]], dict[int, str]]:
    """Make sure that the cache holds all that the baseline has to say.

    Returns:
        The keys of each clip's windows, and of the takes of those that are played on from.
    """
    heard: list[list[str]] = []
    played: dict[int, str] = {}
    free = plan.played_on_from()
    with (
        _Loaded(plan, plan.baseline) as loaded,
        plan.progress.stage("listen to the baseline", len(plan.clips), "prompts") as advance,
    ):
        for n, clip in enumerate(plan.clips):
            samples = clip.samples(plan.config)
            heard.append(teacher_forced.listen(plan, origin, samples, loaded.engine))
            if n in free:
                played[n] = free_running.listen(plan, origin, samples, loaded.engine)
            advance(n + 1)
    return heard, played


class _Loaded:
    """A variant that is loaded once somebody asks for its engine, and let go at the end."""

    def __init__(self, plan: Plan, variant: Variant) -> None:
        self._plan, self._variant = plan, variant
        self._engine: Engine | None = None

    def __enter__(self) -> _Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine = None
        gc.collect()  # an engine refers to itself, and the next one needs its memory

    def engine(self) -> Engine:
        if self._engine is None:
            plan = self._plan
            loaded = self._variant.load(plan.model, plan.base_model, plan.engine, plan.progress)
            self._engine = loaded.engine
        return self._engine
