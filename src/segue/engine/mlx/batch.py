"""Requests that share decode steps: the rows of a batch, which requests join and leave.

Rows lie in slots.  A row that leaves frees its slot, and one that joins takes a free one, so that
other rows stay where they are; the number of slots is one of a few sizes, for each of which a step
is compiled.  A member that is alone runs the steps of `decoding.decode` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from ...pattern import first_unknown
from ..base import Sampling, rows_of
from . import cache as kv_cache
from . import kernels
from .batch_inputs import Inputs, MLXMember, controls_of
from .batch_reads import Reads
from .batch_text import Texts
from .cache import Cache
from .decoding import LAG, Prefilled, prefill, text_of
from .execution import Execution
from .kernels import ATTEND
from .lm import LM, CrossKV, Prefix
from .lookups import Lookup
from .rows import PER_ROW, RowControls, RowSampler, RowStep
from .sampling import Sampler
from .step import Step, StepFunction
from .turns import synchronize, turn

SIZES = (4, 8, 16, 32, 64, 128)
"""Numbers of slots, where steps are compiled for each: few, since that may take seconds on CUDA,
during which all members wait.  Beyond the last, its multiples."""

Slots = list[tuple[MLXMember, int] | None]
"""What lies in each slot: a member and the number of its row; None where it is free."""


class MLXBatch:
    """See `segue.engine.base.Batch`.

    Args:
        lm: the model.
        execution: how steps run.
        apart: takes a conditioning apart: what layers attend to, what comes before the sequence.
        steps: the step for a sampler, and what runs it, for a member that is alone.
        resident: held while there are members.
        max_rows: see `Batch`.
    """

    def __init__(
        self,
        lm: LM,
        execution: Execution,
        apart: Callable[[Any], tuple[CrossKV | None, Prefix | None]],
        steps: Callable[[Sampler], tuple[Step, StepFunction]],
        resident: Callable[[], AbstractContextManager[None]],
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._lm, self._execution, self._apart, self._steps = lm, execution, apart, steps
        self._lookup = Lookup(execution.kernels)
        self._shape = lm.config.num_codebooks, lm.config.cardinality
        self._row_steps: dict[RowSampler, tuple[RowStep, StepFunction]] = {}
        self._resident, self._held = resident, ExitStack()
        self._reads = Reads(lm.config.cardinality, execution.columns_per_read)
        # So many steps are under way that the device has work while the host lets a request join.
        more = execution.columns_per_read if execution.columns_per_read > 1 else 0
        self._lag = LAG + more
        self._masks, self._places = kv_cache.Masks(lm.dtype), mx.arange(0)
        self._members: list[MLXMember] = []
        self._forget()

    def _forget(self) -> None:
        """Be empty."""
        self._members.clear()
        self._slots: Slots = []
        self._cache: Cache = []
        self._tokens = mx.zeros((0, self._shape[0]), mx.int32)
        self._inputs: Inputs | None = None
        self._texts = Texts(self._lm)
        self._text_alone: CrossKV | list[mx.array] | None = None
        self._run: StepFunction | None = None  # None where members have changed
        self._makes_noise = False
        self._alone = True  # as long as there is one member
        self._controls: RowControls | None = None
        self._longest: int | None = None
        self._held.close()

    @property
    def rows(self) -> int:
        """See `Batch`."""
        return sum(member.rows for member in self._members)

    @property
    def slots(self) -> int:
        """Rows that a step computes, free slots included."""
        return len(self._slots)

    @property
    def cache(self) -> tuple[mx.array, ...]:
        """Keys and values of all slots, by layer."""
        return tuple(self._cache)

    @property
    def kernels(self) -> frozenset[str]:
        """Those of `kernels.NAMES` that the next step runs."""
        on = self._execution.kernels
        return on & PER_ROW if len(self._members) > 1 else on

    # --- Joining and leaving ----------------------------------------------------------------------

    def join(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: CrossKV | Prefix | None = None,
        first_step: int = 0,
    ) -> MLXMember:
        """See `Batch.join`."""
        cross, prefix = self._apart(conditioning)
        begin, length = first_unknown(sequence), sequence.shape[-1]
        known = np.repeat(sequence, len(seeds) // len(sequence), axis=0)
        member = MLXMember(
            rows=rows_of(seeds, sampling),
            left=length - begin,
            known=known.transpose(2, 0, 1),
            seeds=seeds,
            sampling=sampling,
            cross=cross,
            first_step=first_step,
            column=begin,
            before=0 if prefix is None else prefix.length,
        )
        if begin == length:
            return member
        with self._resident(), turn():
            start = prefill(
                lm=self._lm,
                step=self._steps(member.sampler)[0],
                sequence=sequence,
                seeds=seeds,
                controls=member.controls,
                cross=cross,
                prefix=prefix,
                first_step=first_step,
                in_place=ATTEND in self._execution.kernels,
                for_batch=True,
            )
            with self._failing():
                self._reads.flush()
                self._reads.add(start.tokens, lambda: [(member, np.arange(member.takes), begin)])
                self._reads.flush()
                if begin + 1 < length:
                    self._add(member, start)
        return member

    def _add(self, member: MLXMember, start: Prefilled) -> None:
        """Run the steps of a member from now on."""
        tokens = start.tokens
        rows = mx.concatenate([tokens, tokens]) if member.sampler.guided else tokens
        if not self._members:
            self._held.enter_context(self._resident())
            self._members.append(member)
            self._tokens, self._cache, start.cache = rows, start.cache, []
            if start.products:
                self._cache = self._lm.empty_cache(member.rows, self._length())
                done = self._write_in_place(range(member.rows), start)
                mx.async_eval(self._cache, done)
            self._settle([(member, n) for n in range(member.rows)])
            self._be_alone(member)
            return
        if self._alone:
            self._be_shared()
        self._members.append(member)
        self._longest = None
        free = self._slots.count(None)
        missing = self._size(self.rows) - len(self._slots) if free < member.rows else 0
        self._arrange([*self._slots, *[None] * missing])
        places = [n for n, row in enumerate(self._slots) if row is None][: member.rows]
        for n, slot in enumerate(places):
            self._slots[slot] = (member, n)
        member.slots = np.array(places)
        self._write(places, rows, start)
        self._texts.put(member, len(self._slots))
        self._run = None

    def _write(self, places: list[int], tokens: mx.array, start: Prefilled) -> None:
        """Give slots their tokens `(rows, K)`, and the keys and values of a prefill.

        The whole row: what was there before may hold a NaN, which no mask would hide.
        """
        index = np.arange(len(self._slots))
        index[places] = len(index) + np.arange(len(places))
        self._tokens = self._lookup(mx.concatenate([self._tokens, tokens]), mx.array(index))
        if start.products:
            # In the order of submission, behind the steps that are under way: nobody waits.
            mx.async_eval(self._tokens, self._write_in_place(places, start))
            return
        at, length = mx.array(places), self._cache[0].shape[3]
        for n, kv in enumerate(start.cache):
            self._cache[n][at] = _of_length(kv, length)
        # MLX writes into the cache, and does not copy all of it, only if no step still reads it.
        synchronize()
        mx.async_eval(self._tokens, self._cache)

    def _write_in_place(self, places: Sequence[int], start: Prefilled) -> mx.array:
        """Write keys and values of a prefill to slots; something to evaluate."""
        filled = start.before + start.begin
        return kernels.write_rows(
            self._cache, start.products, places, start.sources.tolist(), filled
        )

    def leave(self, member: Any) -> None:
        """See `Batch.leave`."""
        if member not in self._members:
            return
        with self._failing(), turn():
            self._reads.flush()
            self._members.remove(member)
            self._longest = None
            if not self._members:
                self._forget()
                return
            self._slots = [None if row and row[0] is member else row for row in self._slots]
            if len(self._members) == 1:
                (other,) = self._members
                self._be_alone(other)
                return
            # With slots for as many again: the next to join would else copy the whole cache back.
            size = self._size(self.rows * (2 if self._execution.compiled else 1))
            if size < len(self._slots):
                kept = [row for row in self._slots if row]
                self._arrange([*kept, *[None] * (size - len(kept))])
            self._texts.drop_unused(self._members)
            self._run = None

    def _size(self, rows: int) -> int:
        """How many slots so many rows have."""
        if not self._execution.compiled:
            return rows
        most = SIZES[-1]
        return next((size for size in SIZES if size >= rows), -(-rows // most) * most)

    def _be_alone(self, member: MLXMember) -> None:
        """Run the steps that a request alone runs, of the rows of a member in their order."""
        step, self._run = self._steps(member.sampler)
        self._makes_noise, self._alone, self._longest = step.makes_noise, True, None
        self._texts, self._controls, self._inputs = Texts(self._lm), None, None
        self._arrange([(member, n) for n in range(member.rows)])
        self._tokens = self._tokens[: member.takes]
        self._text_alone = text_of(step, member.cross, member.takes)
        mx.eval(self._tokens, self._text_alone)

    def _be_shared(self) -> None:
        """Prepare the rows of the member that was alone for others beside them."""
        (member,) = self._members
        if member.sampler.guided:
            self._tokens = mx.concatenate([self._tokens, self._tokens])
        self._text_alone, self._alone = None, False
        self._texts.put(member, len(self._slots))

    def _choose_step(self) -> StepFunction:
        """The step for the rows of several members, once for all who have joined and left."""
        sampler = RowSampler.of(member.sampler for member in self._members)
        if sampler not in self._row_steps:
            step = RowStep(self._lm, sampler, self._execution.kernels)
            run = step.compiled() if self._execution.compiled else step
            self._row_steps[sampler] = step, run
        step, run = self._row_steps[sampler]
        self._inputs, self._makes_noise = None, step.makes_noise
        self._controls = controls_of(self._members, len(self._slots), self._shape[1])
        return run

    # --- Where rows lie ---------------------------------------------------------------------------

    def _length(self) -> int:
        """Positions that the cache needs for the next step."""
        if ATTEND in self.kernels:  # written in place, with its whole length at once
            if self._longest is None:
                self._longest = max(m.before + m.length for m in self._members)
            whole = kv_cache.capacity_for(self._longest)
            # It stays as long as it was: to be shorter saves a step nothing, and costs a copy.
            return max(whole, self._cache[0].shape[3]) if self._cache else whole
        return kv_cache.capacity_for(max(member.position for member in self._members) + 1)

    def _arrange(self, slots: Slots) -> None:
        """Put rows into other slots, in a cache that is as long as they need."""
        if slots == self._slots and self._length() == self._cache[0].shape[3]:
            return
        places = {row: n for n, row in enumerate(self._slots) if row}
        # A free slot keeps what lies there, so that where no row moves nothing is copied.
        last = len(self._slots) - 1
        index = [places[row] if row else min(n, last) for n, row in enumerate(slots)]
        moved, at, length = index != list(range(last + 1)), mx.array(index), self._length()
        if moved:
            self._tokens = self._lookup(self._tokens, at)
            self._texts.arrange(index)
        for n, kv in enumerate(self._cache):
            if moved or kv.shape[3] != length:
                kept = mx.contiguous(_of_length(kv, length))
                if moved:
                    rows = self._lookup(kept.reshape(len(kept), -1), at)
                    kept = rows.reshape(len(slots), *kept.shape[1:])
                self._cache[n] = kept
                del kv, kept
                mx.eval(self._cache[n])  # layer by layer: two whole caches may not fit
        self._settle(slots)

    def _settle(self, slots: Slots) -> None:
        """Note which rows lie in the slots."""
        self._slots = list(slots)
        found: dict[MLXMember, list[int]] = {m: [0] * m.rows for m in self._members}
        for n, row in enumerate(slots):
            if row and row[0] in found:
                found[row[0]][row[1]] = n
        for member, own in found.items():
            member.slots = np.array(own, int)

    # --- Steps ------------------------------------------------------------------------------------

    def step(self) -> None:
        """See `Batch.step`."""
        with self._failing():
            ended: list[MLXMember] = []
            if self._members:
                with turn():
                    self._submit()
                    if self._inputs is not None and self._inputs.used_up:
                        ended = [m for m in self._members if m.column + 1 == m.length]
                    if ended:
                        self._reads.flush()
            # Where steps are under way, waiting for the last of them would leave the device idle.
            wait = ended and (not self._execution.compiled or len(ended) == len(self._members))
            for member in ended:
                self.leave(member)
            for member in self._reads.deliver(self._lag if self._members and not wait else 0):
                self.leave(member)

    def _submit(self) -> None:
        """Run one step on the device."""
        if self._length() > self._cache[0].shape[3]:
            self._arrange(self._slots)
        alone, in_place = self._alone, ATTEND in self._execution.kernels
        if self._run is None:
            self._run = self._choose_step()
        if self._inputs is None or self._inputs.used_up:
            rows = len(self._tokens)
            self._inputs = Inputs(self._members, rows, self._shape, alone, self._makes_noise)
        known, position, gumbel = self._inputs.next()
        # The old cache must not outlive its step: MLX updates in place what nobody else refers to.
        cache, self._cache = self._cache, []
        length, run, mask = cache[0].shape[3], self._run, None
        if alone:
            (member,) = self._members
            if not in_place:
                mask = self._masks.of(member.position, length)
            more: tuple[Any, ...] = (mask, gumbel, member.controls, cache, self._text_alone)
        else:
            if not in_place:
                if self._places.size != length:
                    self._places = mx.arange(length)
                mask = (self._places <= position[:, None])[:, None, None]
            more = (mask, gumbel, self._controls, cache, *self._texts.arrays)
        self._tokens, self._cache = run(self._tokens, known, position, *more)
        del cache, more
        mx.async_eval(self._tokens)
        self._reads.add(
            self._tokens, lambda: [(m, m.take_slots, m.column + 1) for m in self._members]
        )
        for member in self._members:
            member.column += 1

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Within, whatever is raised ends every member."""
        try:
            yield
        except Exception as error:
            for member in self._members:
                member.error = member.error or error
            self._reads.fail(error)
            self._forget()
            raise


def _of_length(kv: mx.array, length: int) -> mx.array:
    """Keys and values `(B, 2, H, L, D)` with `length` positions."""
    missing = length - kv.shape[3]
    if missing <= 0:
        return kv[:, :, :, :length]
    return mx.pad(kv, [(0, 0), (0, 0), (0, 0), (0, missing), (0, 0)])
