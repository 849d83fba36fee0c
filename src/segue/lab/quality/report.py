"""What a measurement of quality found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..variant import Variant

SCHEMA = 1

Table = dict[str, Any]


@dataclass(frozen=True)
class QualityReport:
    """How far a variant is from a baseline.

    Attributes:
        model: the checkpoint, as it was given.
        engine: what ran both.
        baseline, variant: what was compared.
        seed: of the first take of each prompt.
        text: the description that both had.
        judge: which music distributions were compared on: `"full"`, `"small"` or `"prompts"`.
        prompts: `name` and `seconds` of each piece of it, and whether it is `built_in`.
        tokens: how many were `counted`, in how many `frames`, `codebooks` and `windows`; the
            `context_frames` that were not, and the bootstrap's blocks.
        kl: nats per token, KL(baseline || variant); for `overall`, `codebook_0` and so on `mean`,
            its `ci95`, `median`, `p99` and `max`.
        top1_agreement: the share of tokens, 0 to 1, as `mean` and `ci95`.
        perplexity: of the codes that follow: `baseline`, `variant`, their `ratio` and its `ci95`.
        conditions: `kl`, `top1_agreement` and `perplexity` once more where the pieces have words
            that describe them: `text`, with these, and `guided`, with guidance by them.
        blocks: what `paired.difference` compares two reports by: for each prompt the `frames` of
            its windows, and the sums of `kl`, and of the conditions', in each block.
        free_running: of the `takes`, each with the `frames` before the first difference, or
            `censored` if there was none in all of `limit_frames`: `mean_frames`, its `ci95` and
            `median_frames`.
        audio: the mean over takes of each of `free_running.MEASURES`, of loudness differences
            without their sign; the same `between_seeds`, that is between the baseline's takes, to
            compare with; and each of the `takes`, with the names of its `files` if there is a
            folder.
        notes: for the reader, one line each.
    """

    model: str
    engine: str
    baseline: Variant
    variant: Variant
    seed: int
    text: str
    judge: str
    prompts: list[Table]
    tokens: Table
    kl: Table
    top1_agreement: Table
    perplexity: Table
    conditions: Table
    blocks: Table
    free_running: Table
    audio: Table
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as it is written; `notes` only where there are some."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "engine": self.engine,
            "baseline": {"name": self.baseline.name} | self.baseline.to_json(),
            "variant": {"name": self.variant.name} | self.variant.to_json(),
            "seed": self.seed,
            "text": self.text,
            "judge": self.judge,
            "prompts": self.prompts,
            **({"notes": self.notes} if self.notes else {}),
            "tokens": self.tokens,
            "kl": self.kl,
            "top1_agreement": self.top1_agreement,
            "perplexity": self.perplexity,
            "conditions": self.conditions,
            "blocks": self.blocks,
            "free_running": self.free_running,
            "audio": self.audio,
        }
