"""The texts of a batch: for each row keys and values of its own, in one array."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from .batch_inputs import MLXMember
from .lm import LM, filled_up


class Texts:
    """What the rows of a batch attend to besides themselves.

    Args:
        lm: the model.
    """

    def __init__(self, lm: LM) -> None:
        self._lm = lm
        self._cross: mx.array | None = None
        self._lengths = np.ones(0, np.int32)
        self._mask: mx.array | None = None

    @property
    def arrays(self) -> tuple[mx.array | None, mx.array | None]:
        """Keys and values, and which tokens each row has; see `RowStep`.  None without texts."""
        return self._cross, self._mask

    def put(self, member: MLXMember, rows: int) -> None:
        """Give a member's rows their text; the unconditioned ones, and those without, zeros.

        Args:
            member: with its slots.
            rows: slots that there are.
        """
        cross = member.cross
        if cross is None and self._cross is None:
            return
        tokens = 1 if cross is None else cross[0][0].shape[2]
        self._make_room(rows, filled_up(tokens))
        there = self._cross
        assert there is not None  # noqa: S101 - there is room now
        block = mx.zeros((*there.shape[:2], member.rows, *there.shape[3:]), there.dtype)
        if cross is not None:
            text = mx.stack([mx.stack(list(pair)) for pair in cross])  # (layers, 2, 1, H, L, D)
            missing = there.shape[4] - tokens
            text = mx.pad(text, [(0, 0)] * 4 + [(0, missing), (0, 0)])
            block[:, :, : member.takes] = text
        there[:, :, mx.array(member.slots)] = block
        # A row without a text attends to one token of zeros, which adds nothing.
        self._lengths[member.slots] = 1
        self._lengths[member.take_slots] = tokens
        self._changed()

    def arrange(self, index: list[int]) -> None:
        """Have the rows `index` in the slots from now on."""
        if self._cross is not None:
            self._cross = self._cross[:, :, mx.array(index)]
            self._lengths = self._lengths[np.array(index)]
            self._changed()

    def drop_unused(self, members: Sequence[MLXMember]) -> None:
        """Keep nothing where no member has a text."""
        if all(member.cross is None for member in members):
            self._cross, self._mask = None, None

    def _make_room(self, rows: int, tokens: int) -> None:
        config = self._lm.config
        if self._cross is None:
            shape = (config.num_layers, 2, rows, config.num_heads, tokens, config.head_dim)
            self._cross = mx.zeros(shape, self._lm.dtype)
            self._lengths = np.ones(rows, np.int32)
        elif (missing := tokens - self._cross.shape[4]) > 0:
            self._cross = mx.pad(self._cross, [(0, 0)] * 4 + [(0, missing), (0, 0)])

    def _changed(self) -> None:
        there = self._cross
        assert there is not None  # noqa: S101 - its callers have looked
        lengths = mx.array(self._lengths)[:, None]
        self._mask = (mx.arange(there.shape[4]) < lengths)[:, None, None]
        mx.async_eval(there, self._mask)
