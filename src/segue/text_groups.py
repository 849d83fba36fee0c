"""The takes of a request by their texts: those of one text are conditioned and run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .engine.base import Conditioning, Engine, Sampling, TakeGroup


class TextGroups:
    """The takes of a request, grouped by text.

    Args:
        engine: what conditions and runs them.
        texts: of each take; a blank one is none.
        seeds: of each take.
    """

    def __init__(self, engine: Engine, texts: Sequence[str], seeds: Sequence[int]) -> None:
        self._engine, self._seeds = engine, seeds
        self._takes: dict[str, list[int]] = {}
        for n, text in enumerate(texts):
            self._takes.setdefault(text, []).append(n)

    def notes(self) -> list[str]:
        """A line on each text that is too long to be read whole.

        Raises:
            CheckpointError: the checkpoint's text encoder is missing or damaged.
        """
        notes = (self._engine.text_note(text) for text in self._takes if text.strip())
        return [note for note in notes if note is not None]

    def conditioned(self, melody: np.ndarray | None) -> list[Conditioning | None]:
        """What each group is conditioned on, in their order; None for nothing.

        Args:
            melody: that all follow, see `Engine.condition`, or None.

        Raises:
            CheckpointError: the checkpoint's text encoder is missing or damaged.
            RequestError: a melody for a model that takes none.
        """
        return [
            self._engine.condition(text, melody) if text.strip() or melody is not None else None
            for text in self._takes
        ]

    def prefill(
        self,
        sequence: np.ndarray,
        sampling_of: Callable[[str], Sampling],
        conditioned: Sequence[Conditioning | None],
        first_step: int,
    ) -> Iterator[np.ndarray]:
        """Run the known start of `sequence`; return an iterator that generates the rest.

        Args:
            sequence: see `Engine.prefill`.
            sampling_of: how tokens are sampled for a text.
            conditioned: from `conditioned`.
            first_step: see `Engine.prefill`.

        Returns:
            An iterator over the columns `(N, K)` int32, takes in their order.

        Raises:
            ModelOverflowError: see `Engine.prefill`.
        """
        groups = [
            TakeGroup(
                sequence if len(sequence) == 1 else sequence[takes],
                tuple(self._seeds[n] for n in takes),
                sampling_of(text),
                conditioning,
                first_step,
            )
            for (text, takes), conditioning in zip(self._takes.items(), conditioned, strict=True)
        ]
        if len(groups) == 1:
            (only,) = groups
            return self._engine.prefill(
                only.sequence, only.seeds, only.sampling, only.conditioning, first_step
            )
        places = np.argsort([n for takes in self._takes.values() for n in takes])
        columns = self._engine.prefill_groups(groups)
        return (tokens[places] for tokens in columns)
