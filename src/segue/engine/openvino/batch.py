"""What OpenVINO runs for requests that share decode steps: the rows of one cache.

The graph appends one column to all rows, so rows are aligned at their ends: what lies before a
row's first column is masked.  Positions are added to the embeddings by the host, so it does not
matter where in the cache a column lies.  A row leaves by not being chosen any more; for one that
joins, the cache is put together anew, which costs reading and writing all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cpu.batch import CPUBatch, Start
from .lm import LM, CrossKV, Prefix, Run

UNUSED_COLUMNS = 256
"""Columns that no row needs any more, beyond which the cache is put together anew."""


@dataclass(frozen=True)
class Prefilled:
    """A request whose known start has been run.

    Attributes:
        run: its cache, and the graph that fills it.
        rows: `(B,)` int32, the cache's row that each of its rows goes on with.
        cross: of its text, or None.
    """

    run: Run
    rows: np.ndarray
    cross: CrossKV | None


class OpenVINOBatch(CPUBatch[Prefilled, CrossKV, Prefix]):
    """See `CPUBatch`: a member's state is what it joined with, of which the text is needed on.

    Args:
        lm: the model.
        apart: see `CPUBatch`.
        make_room: see there.
        max_rows: see there.
    """

    def __init__(
        self,
        lm: LM,
        apart: Callable[[Any], tuple[CrossKV | None, Prefix | None]],
        make_room: Callable[[], None],
        max_rows: int,
    ) -> None:
        super().__init__(apart, make_room, max_rows)
        self._lm = lm
        self._run: Run | None = None
        self._with_text = False
        self._index = np.zeros(0, np.int32)  # the cache's row of each row of the next step

    # --- Joining and leaving ----------------------------------------------------------------------

    def _run_start(self, start: Start[CrossKV, Prefix]) -> tuple[Prefilled, int, np.ndarray]:
        starts, takes, guided = len(start.prompt), start.takes, start.guided
        run = self._lm.run(_of_batch(start.text, starts, guided))
        prompt = _streams_of(start.prompt, guided)
        before = 0 if start.prefix is None else start.prefix.length
        hidden = self._lm.embed(prompt, before)
        if start.prefix is not None:
            hidden = start.prefix.before(hidden, guided)
        logits = run(hidden, np.arange(len(prompt), dtype=np.int32))[:, -1]
        # Each row of the batch goes on with its own row of the cache from here on.
        rows = _streams_of(np.arange(takes) if starts == takes else np.zeros(takes, int), guided)
        if guided:
            rows[takes:] += starts
        if starts < takes:
            logits = logits[rows]
            run.attend_to(_of_batch(start.text, takes, guided))
        return Prefilled(run, rows.astype(np.int32), start.text), before, logits

    def _release(self, state: Prefilled) -> None:
        state.run.release()

    def _added(self) -> None:
        """Put a member's rows behind those that there are."""
        start = self._members[-1].state
        if len(self._members) == 1:
            self._run, self._index = start.run, start.rows
            self._with_text = start.cross is not None
            return
        before, index = self._in_use(), self._index
        with_text = any(m.state.cross is not None for m in self._members)
        run = before if with_text == self._with_text else self._lm.empty_run(with_text)
        length = max(m.position for m in self._members)
        for name in before.caches:
            parts = (before.cache(name)[index], start.run.cache(name)[start.rows])
            run.load(name, np.concatenate([_last(part, length) for part in parts]))
        start.run.release()
        if run is not before:
            before.release()
        self._run, self._with_text = run, with_text
        self._index = np.arange(self.rows, dtype=np.int32)
        self._attend()

    def _removed(self, kept: np.ndarray) -> None:
        if not self._members:
            if self._run is not None:
                self._run.release()
            self._run, self._with_text = None, False
            return
        self._index = self._index[kept]
        run, longest = self._in_use(), max(m.position for m in self._members)
        alone = len(self._members) == 1
        if run.length - longest >= (1 if alone else UNUSED_COLUMNS):
            self._trim(run, longest)
        self._attend()

    def _trim(self, run: Run, length: int) -> None:
        for name in run.caches:
            run.load(name, _last(run.cache(name)[self._index], length))
        self._index = np.arange(self.rows, dtype=np.int32)

    def _in_use(self) -> Run:
        assert self._run is not None  # noqa: S101 - there is a member
        return self._run

    def _attend(self) -> None:
        """Have each row attend to its own text; those without one to a token of zeros."""
        if not self._with_text:
            return
        texts = [m.state.cross for m in self._members if m.state.cross is not None]
        tokens = max((text[0][0].shape[2] for text in texts), default=1)
        rows: list[CrossKV | None] = []
        mask = np.full((self.rows, 1, 1, tokens), -np.inf, np.float32)
        mask[..., 0] = 0
        at = 0
        for member in self._members:
            text, takes = member.state.cross, len(member.seeds)
            if text is not None:
                mask[at : at + takes, ..., : text[0][0].shape[2]] = 0
            rows += [text] * takes + [None] * (member.rows - takes)
            at += member.rows
        cross: CrossKV = []
        config = self._lm.config
        shape = (self.rows, config.num_heads, tokens, config.head_dim)
        for layer in range(config.num_layers):
            pair = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            for row, text in enumerate(rows):
                if text is None:
                    continue
                for own, whole in zip(text[layer], pair, strict=True):
                    whole[row, :, : own.shape[2]] = own[0]
            cross.append(pair)
        self._in_use().attend_to(cross, mask)

    # --- Steps ------------------------------------------------------------------------------------

    def _run_step(self) -> np.ndarray:
        run = self._in_use()
        hidden = np.concatenate(
            [
                self._lm.embed(_streams_of(m.tokens, m.guided)[:, None], m.position)
                for m in self._members
            ]
        )
        logits = run(hidden, self._index, mask=self._mask(run.length + 1))
        self._index = np.arange(self.rows, dtype=np.int32)
        return logits[:, -1]

    def _mask(self, length: int) -> np.ndarray | None:
        """What each row attends to, `(B, 1, 1, length)`; None where that is everything."""
        first = np.repeat(
            [length - 1 - member.position for member in self._members],
            [member.rows for member in self._members],
        )
        if not first.any():
            return None
        before = np.arange(length)[None, :] < first[:, None]
        return np.where(before, np.float32(-np.inf), np.float32(0))[:, None, None]


def _streams_of(rows: np.ndarray, guided: bool) -> np.ndarray:
    """The rows that the model runs for those of the takes: conditioned, then unconditioned."""
    return np.concatenate([rows, rows]) if guided else rows.copy()


def _of_batch(cross: CrossKV | None, takes: int, guided: bool) -> CrossKV | None:
    """Cross-attention's keys and values for a batch: one text for all takes.

    The unconditioned stream attends to zeros, which add nothing.
    """
    if cross is None:
        return None

    def batch(x: np.ndarray) -> np.ndarray:
        rows = np.repeat(x, takes, axis=0)
        return np.concatenate([rows, np.zeros_like(rows)]) if guided else rows

    return [(batch(k), batch(v)) for k, v in cross]


def _last(values: np.ndarray, length: int) -> np.ndarray:
    """The last `length` columns of `(B, H, T, D)`, with zeros before them where there are fewer."""
    missing = length - values.shape[2]
    if missing <= 0:
        return values[:, :, -missing:]
    return np.pad(values, [(0, 0), (0, 0), (missing, 0), (0, 0)])
