"""What the native engine runs for requests that share decode steps: all their rows in one call.

Each row has a cache of its own, so requests join and leave without anything being copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cpu.batch import CPUBatch, Start
from ..openvino.lm import Prefix
from .lm import Cache, NativeLM, Rows, TextCache


@dataclass(frozen=True)
class Stream:
    """One row of a step.

    Attributes:
        cache: of its columns.
        text: what it attends to, or None.
    """

    cache: Cache
    text: TextCache | None


class NativeBatch(CPUBatch[tuple[Stream, ...], TextCache, Prefix]):
    """See `CPUBatch`: a member's state is its streams, the conditioned ones of all takes first.

    Args:
        lm: the model.
        apart: see `CPUBatch`.
        make_room: see there.
        max_rows: see there.
    """

    def __init__(
        self,
        lm: NativeLM,
        apart: Callable[[Any], tuple[TextCache | None, Prefix | None]],
        make_room: Callable[[], None],
        max_rows: int,
    ) -> None:
        super().__init__(apart, make_room, max_rows)
        self._lm = lm

    def _run_start(
        self, start: Start[TextCache, Prefix]
    ) -> tuple[tuple[Stream, ...], int, np.ndarray]:
        lm, known = self._lm, start.prompt.shape[1]
        starts = len(start.prompt)
        before = 0 if start.prefix is None else start.prefix.length
        hidden = np.stack([lm.embed(tokens, before) for tokens in start.prompt])
        texts = (start.text,) * starts
        if start.guided:  # the unconditioned stream attends to nothing
            hidden, texts = np.concatenate([hidden, hidden]), texts + (None,) * starts
        if start.prefix is not None:
            hidden = start.prefix.before(hidden, start.guided)
        shared = starts < start.takes
        room = before + (known if shared else start.columns)
        streams = [Stream(Cache(lm, room), text) for text in texts]
        logits = np.concatenate(
            [
                lm.run([Rows(stream.cache, rows, stream.text)])
                for stream, rows in zip(streams, hidden, strict=True)
            ]
        )
        if shared:  # all takes go on from its keys and values, which are kept once
            left = start.columns - known
            streams = [
                Stream(Cache(lm, left, base.cache), base.text)
                for base in streams
                for _ in range(start.takes)
            ]
            logits = np.repeat(logits, start.takes, axis=0)
        return tuple(streams), before, logits

    def _run_step(self) -> np.ndarray:
        rows = []
        for member in self._members:
            embedded = self._lm.embed(member.tokens, member.position, abreast=True)
            rows += [
                Rows(stream.cache, embedded[[n % len(embedded)]], stream.text)
                for n, stream in enumerate(member.state)
            ]
        return self._lm.run(rows)
