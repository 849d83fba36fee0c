"""Playing on from a take: its sound as the input of another job, and what that one inherits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...bars import Grid
from ..exceptions import RefusalError
from .rows import COMPLETED, Input, Job, Parent
from .store import Store
from .take_files import copy, stretches

_LEAST_SECONDS = 0.02
"""One frame of the codec."""


def place(job: Job, number: int, until: float | None, longest: float) -> Parent:
    """Where in a job's take another one plays on.

    Args:
        job: which is done.
        number: of the take, from 1.
        until: seconds from the take's start; None, or more than there are, is its end.
        longest: seconds of audio that a job may have.

    Raises:
        RefusalError: the job is not done, there is no such take, or too much or nothing of it.
    """
    result = job.result
    if job.state != COMPLETED or result is None:
        raise RefusalError(409, "this music is not done, so that nothing can play on from it")
    if not 1 <= number <= len(result["takes"]):
        raise RefusalError(404, f"there is no take {number}")
    length = result["takes"][number - 1]["frames"] / result["sample_rate"]
    seconds = length if until is None else min(until, length)
    if seconds < _LEAST_SECONDS:
        raise RefusalError(422, f"until_seconds must be {_LEAST_SECONDS:g} or more")
    if seconds > longest:
        raise RefusalError(
            422,
            f"the piece is {seconds:.0f} s long by now, and {longest:.0f} s are taken; play on "
            "from an earlier place, or download it and send the part that matters",
        )
    return Parent(job.id, number, seconds)


def new_piece(store: Store, job: Job, parent: Parent) -> Input:
    """Copy what is played on from into a new input, from the take's start.

    Args:
        store: of the job.
        job: that `parent` names.
        parent: from `place`.

    Raises:
        OSError: the disk is full, or the job was removed meanwhile.
        ResultsGoneError: the store of results does not answer.
    """
    result, folder = job.result, store.attempt_folder(job)
    assert result is not None  # noqa: S101 - `place` has looked
    before = store.input(job.input)
    stop = round(parent.seconds * result["sample_rate"])
    wanted = stretches(result, parent.take, folder, store.input_path(job.input), 0, stop)
    for each in wanted:
        store.present(each.path)
    name, path = store.new_input()
    frames, size = copy(wanted, path)
    file_name = "" if before is None else before.name
    return Input(name, result["sample_rate"], result["channels"], frames, size, file_name)


def inherited(job: Job, number: int, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a job that plays on, by the names of `JobSpec`.

    Args:
        job: that is played on from; it is done.
        number: of its take.
        model: that plays on.
        given: what the client sent; what it leaves open is as it was at the end of that take, but
            for lengths, seed and number of takes.
    """
    spec, result = job.spec, job.result or {}
    found: dict[str, Any] = {name: getattr(spec, name) for name in _INHERITED}
    last = spec.parts[-1].text if spec.parts else spec.text_of_takes[number - 1]
    found |= {"start": None, "text": last}
    if model == spec.model:
        found |= {"adapters": spec.adapters, "melody": spec.melody}
    if (grid := grid_of(result)) is not None:
        found |= {"bpm": grid.bpm, "beats_per_bar": grid.beats_per_bar, "snap": spec.snap}
        found["downbeat"] = grid.downbeat
    if given.get("texts"):
        del found["text"]
    return {**found, **given}


_INHERITED = ("top_k", "top_p", "temperature", "guidance_coef", "extend_stride")


def grid_of(result: dict[str, Any]) -> Grid | None:
    """Where in a job's result the bars lie, if it has a tempo."""
    grid = result.get("grid")
    return None if grid is None else Grid(**grid)
