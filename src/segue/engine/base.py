"""What an engine is to the rest of segue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..checkpoints.config import MelodyConfig, ModelConfig
from ..checkpoints.load_report import LoadReport
from ..errors import ModelOverflowError, RequestError

Conditioning = Any
"""A text as an engine keeps it; only the engine that made it can use it."""


@dataclass(frozen=True)
class Sampling:
    """How a token is sampled from logits.

    Attributes:
        top_k: how many of the likeliest tokens take part, exactly; 0 or more than V: all.
        temperature: what logits are divided by; 0 takes the likeliest token.
        top_p: of the likeliest tokens as many take part as have this probability together, the one
            that reaches it included (nucleus sampling, https://arxiv.org/abs/1904.09751); 0: all
            of `top_k`, whose place it takes otherwise, as in AudioCraft.
        guidance_coef: `uncond + (cond - uncond) * coef`; None runs one stream without guidance.
    """

    top_k: int = 250
    temperature: float = 1.0
    guidance_coef: float | None = None
    top_p: float = 0.0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken: by top-k, or colder than float32 can divide by."""
        return (self.top_k == 1 and not self.top_p) or self.temperature < 1e-6


def check_finite(values: np.ndarray, what: str, fixed: bool = False) -> np.ndarray:
    """`values` if all of them are finite.

    Args:
        values: floats of any shape.
        what: see `ModelOverflowError`.
        fixed: see there.

    Raises:
        ModelOverflowError: one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise ModelOverflowError(what, fixed)
    return values


def check_melody(config: MelodyConfig | None, melody: np.ndarray | None) -> None:
    """Refuse a melody for a model that takes none.

    Args:
        config: `LMConfig.melody` of the model.
        melody: see `Engine.condition`.

    Raises:
        RequestError: there is one.
    """
    if config is None and melody is not None:
        raise RequestError(
            "this model follows no melody; take one that does, such as facebook/musicgen-melody"
        )


@dataclass(frozen=True, eq=False)
class TakeGroup:
    """Takes of one text, among others that run beside them.

    Attributes are the arguments of `Engine.prefill`.
    """

    sequence: np.ndarray
    seeds: tuple[int, ...]
    sampling: Sampling
    conditioning: Conditioning | None = None
    first_step: int = 0

    @property
    def rows(self) -> int:
        """The rows of a batch that it takes, see `rows_of`."""
        return rows_of(self.seeds, self.sampling)


def rows_of(seeds: tuple[int, ...], sampling: Sampling) -> int:
    """The rows of a batch that a request takes: one for each stream of each take."""
    return len(seeds) * (1 if sampling.guidance_coef is None else 2)


@dataclass(eq=False)
class Member:
    """A request in a `Batch`.

    Attributes:
        rows: of the batch that it takes, see `rows_of`.
        left: columns that are not in `columns` yet.
        columns: `(N, K)` int32, generated and not taken; whoever runs the request takes them.
        error: what ended it before all columns were there; it is no member any more then.
    """

    rows: int
    left: int
    columns: deque[np.ndarray] = field(default_factory=deque)
    error: Exception | None = None

    def hand_out(self, columns: Sequence[np.ndarray]) -> None:
        """Add columns `(N, K)` to those that can be taken.

        Other threads look at a member without a lock: one that saw none left and no columns would
        take that for the end, so the columns are there before `left` is less.
        """
        self.columns.extend(columns)
        self.left -= len(columns)


class Batch(Protocol):
    """A decode loop that requests join and leave: each step runs one column of every member.

    Members have their own lengths, seeds, samplings and texts.  Noise depends on a member's seeds
    and steps alone, and rows are computed independently of each other, so its columns are those
    that `Engine.prefill` gives it, as far as logits that differ by rounding sample the same tokens.
    A member that is alone runs exactly the steps of `Engine.prefill`.

    One thread may use it at a time; `segue.engine.shared` lets many.

    Attributes:
        max_rows: rows that fit in it together; a request of more can only be alone.
        rows: that are taken now.
    """

    max_rows: int

    @property
    def rows(self) -> int:
        """See above."""

    def join(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: Conditioning | None = None,
        first_step: int = 0,
    ) -> Member:
        """Run the known start of `sequence`; the steps from now on run the rest.

        Args and errors are those of `Engine.prefill`.  If it raises, the batch is as it was.
        """

    def step(self) -> None:
        """Run the next column of every member; without members, do nothing.

        Columns reach their members some steps late, but all of them once there are no more to run.
        A member whose logits are not finite gets a `ModelOverflowError`, and leaves; the others
        stay.  If anything is raised, every member has left, and has it as its error.
        """

    def leave(self, member: Member) -> None:
        """Take a member out, wherever it is; one that has left already stays as it is."""


class Engine(Protocol):
    """A loaded checkpoint that can encode, generate and decode.

    No method but `logits` returns values that were computed from a NaN or an infinity: they raise
    `ModelOverflowError` instead, so that the output of a model that overflows is never written.

    Codes are integers `(K, F)`: codebooks (8 for stereo, left and right interleaved) by frames.
    A sequence is codes in the delay pattern, `(K, S)`; see `segue.pattern`.

    Attributes:
        name: `"mlx"`, `"native"` or `"openvino"`.
        device: what it runs on, for people.
        dtype: what it computes the language model in.
        config: the shape of the model.
        load_report: what was quantized, and how long the parts of loading took.
        held: bytes of the modules whose weights it does not hold as they are stored, nor in
            `dtype`, by their names.
    """

    name: str
    device: str
    dtype: str
    config: ModelConfig
    load_report: LoadReport
    held: Mapping[str, int]

    def read_weights(self) -> None:
        """Read the language model's weights now that would be read when they are first used."""

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes `(..., K, F)` int32 of float32 `samples` `(..., T, C)` at the codec's rate.

        C is the model's channel count; F is T over the hop length, rounded up.
        """

    def decode(
        self, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """Samples `(..., T, C)` float32 at the codec's rate of `codes` `(..., K, F)`; T is F hops.

        Takes are decoded together, in pieces of a bounded size.  In a batch a take has the samples
        that it has alone, up to 1e-5 of full scale.

        Args:
            codes: of one take, or of many.
            advance: called with the number of takes that are done.
        """

    def condition(self, text: str, melody: np.ndarray | None = None) -> Conditioning:
        """What the language model attends to for `text`, projected once for every layer.

        Of a text with more tokens than the text encoder's `max_tokens`, the start is read.

        Args:
            text: a description; in a melody model it may be empty.
            melody: `(T, C)` at the codec's rate, whose strongest pitch classes a melody model
                follows; of more than 30 s, the start.

        Raises:
            CheckpointError: the checkpoint's text encoder is missing or damaged.
            RequestError: a melody for a model that takes none.
        """

    def text_note(self, text: str) -> str | None:
        """A line on what of `text` is too long for `condition` to read; None if nothing is.

        Raises:
            CheckpointError: see `condition`.
        """

    def prefill(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: Conditioning | None = None,
        first_step: int = 0,
    ) -> Iterator[np.ndarray]:
        """Run the known start of `sequence`; return an iterator that generates the rest.

        Args:
            sequence: `(1, K, S)` for a start that all takes share, or `(N, K, S)`; tokens, and
                `pattern.UNKNOWN` where the model fills in.  The first column is known.
            seeds: one for each of the N takes, 0 to 2³² - 1.
            sampling: how tokens are sampled.
            conditioning: from `condition`, or None for neither text nor melody: no cross-attention
                then.
            first_step: the number of the first column, so that noise, which depends on (seed,
                step, codebook) alone, continues where an earlier window ended.

        Returns:
            An iterator over the columns from the first with an unknown entry to the last, each
            `(N, K)` int32.  It may be dropped at any time.  A column whose logits are not finite
            raises `ModelOverflowError`, here or in the iterator.
        """

    def prefill_groups(self, groups: Sequence[TakeGroup]) -> Iterator[np.ndarray]:
        """Run takes with different texts in one batch; see `prefill`.

        Each group's columns are those that `prefill` gives it, as far as logits that differ by
        rounding sample the same tokens.

        Args:
            groups: one or more, whose sequences are equally long and equally known.

        Returns:
            An iterator over the columns `(N, K)` int32 of the takes of all groups, one group behind
            the other.
        """

    def batch(self, max_rows: int) -> Batch:
        """A new, empty batch for requests that share their steps.

        Args:
            max_rows: see `Batch`; at least 1.
        """

    def logits(self, sequence: np.ndarray, conditioning: Conditioning | None = None) -> np.ndarray:
        """Logits `(S, K, V)` float32 after each column of a wholly known `sequence` `(K, S)`."""
