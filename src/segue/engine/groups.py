"""Takes with different texts in one batch: a member of the batch for each text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .base import Batch, Member, TakeGroup


class GroupColumns(Iterator[np.ndarray]):
    """The columns of several members of a batch side by side.

    The members leave when this is dropped, begun or not.

    Args:
        members: that have equally many columns left.
        run_for: runs steps until a member has a column, or will never have one.
        leave: takes a member out of the batch.
    """

    def __init__(
        self,
        members: Sequence[Member],
        run_for: Callable[[Member], None],
        leave: Callable[[Member], None],
    ) -> None:
        self._members, self._run_for, self._leave = members, run_for, leave

    def __next__(self) -> np.ndarray:
        for member in self._members:
            if not member.columns:
                self._run_for(member)
            if not member.columns:
                if member.error is not None:
                    self._leave_all()  # whatever holds on to the error and its frames
                    raise member.error
                raise StopIteration
        columns = [member.columns.popleft() for member in self._members]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    def _leave_all(self) -> None:
        for member in self._members:
            self._leave(member)

    def __del__(self) -> None:
        self._leave_all()


def join_groups(batch: Batch, groups: Sequence[TakeGroup]) -> list[Member]:
    """Let groups of takes join a batch, all of them or none.

    Raises:
        ModelOverflowError: see `Engine.prefill`.
    """
    members: list[Member] = []
    try:
        for group in groups:
            members.append(
                batch.join(
                    group.sequence,
                    group.seeds,
                    group.sampling,
                    group.conditioning,
                    group.first_step,
                )
            )
    except BaseException:
        for member in members:
            batch.leave(member)
        raise
    return members


def run_groups(batch: Batch, groups: Sequence[TakeGroup]) -> Iterator[np.ndarray]:
    """Run groups of takes in a batch that nobody else uses; see `Engine.prefill_groups`."""

    def run_for(member: Member) -> None:
        while not member.columns and member.left and member.error is None:
            batch.step()

    return GroupColumns(join_groups(batch, groups), run_for, batch.leave)
