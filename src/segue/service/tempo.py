"""Tempo and beats of what the service has, found by a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .. import beats
from ..errors import RequestError
from .exceptions import RefusalError, TaskError, WorkerDiedError
from .jobs.rows import Input, Job
from .jobs.spec import JobSpec
from .jobs.store import Store
from .workers.client import Worker

AUTO = "auto"

_HEARD_SECONDS = 60.0
"""How much audio is searched for beats."""

_REMEMBERED = 64

NO_TRACKER = "finding beats needs another package: pip install 'segue[beats]'; or type the tempo"


def is_auto(parameters: Mapping[str, Any]) -> bool:
    """Whether a client's parameters want something to be found."""
    return AUTO in (parameters.get("bpm"), parameters.get("downbeat"))


def checkable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same with numbers in the place of what is to be found, so that the rest can be checked.

    Raises:
        RequestError: a downbeat is to be found without a tempo.
    """
    found = dict(parameters)
    if found.get("downbeat") == AUTO:
        if found.get("bpm") is None:
            raise RequestError("downbeat needs a tempo: give the bpm, too")
        del found["downbeat"]
    if found.get("bpm") == AUTO:
        found["bpm"] = 120.0
    return found


class Tempo:
    """Finds beats.

    Args:
        store: of the audio.
        worker: of the role `measurer`.
    """

    def __init__(self, store: Store, worker: Worker) -> None:
        self._store, self._worker = store, worker
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}

    async def close(self) -> None:
        """End the worker."""
        await self._worker.stop()

    def check(self, audio: bool) -> None:
        """Check that a tempo can be found, before anything takes time.

        Args:
            audio: whether there is any.

        Raises:
            RefusalError: it cannot.
        """
        if not audio:
            raise RefusalError(422, "there is no audio to find a tempo in; type the bpm")
        if not beats.available():
            raise RefusalError(422, NO_TRACKER)

    async def find(
        self,
        input_: Input,
        end_seconds: float | None,
        beats_per_bar: float | None = None,
        bpm: float | None = None,
    ) -> dict[str, Any]:
        """Find tempo, metre, downbeat and beats in a minute of an input.

        Args:
            input_: whose file is in the store.
            end_seconds: where that minute ends at the latest; None is the end of the audio.
            beats_per_bar: where it is known.
            bpm: where it is known.

        Returns:
            See `segue.service.workers.measure.find_beats`.

        Raises:
            RefusalError: there is no tracker, or it finds none.
        """
        end = input_.seconds if end_seconds is None else min(end_seconds, input_.seconds)
        start = max(0.0, end - _HEARD_SECONDS)
        key = (input_.id, start, beats_per_bar, bpm)
        if (known := self._known.get(key)) is not None:
            return known
        task = {
            "kind": "find_beats",
            "path": str(self._store.input_path(input_.id)),
            "start": start,
            "seconds": _HEARD_SECONDS,
            "beats_per_bar": beats_per_bar,
            "bpm": bpm,
        }
        await asyncio.to_thread(self._store.present, self._store.input_path(input_.id))
        found = await self._measured(task)
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = found
        return found

    async def resolved(
        self, parameters: Mapping[str, Any], spec: JobSpec, input_: Input
    ) -> tuple[dict[str, Any], str]:
        """A client's parameters with what was found, and a note that says it.

        Args:
            parameters: by the names of `JobSpec`, see `is_auto`.
            spec: of `checkable` parameters, which says where the prompt lies.
            input_: the job's audio.

        Raises:
            RefusalError: see `find`.
        """
        end = None if spec.start is None else max(_HEARD_SECONDS, spec.start + spec.prompt_seconds)
        bpm = parameters["bpm"]
        found = await self.find(
            input_,
            end,
            parameters.get("beats_per_bar"),
            None if bpm == AUTO else bpm,
        )
        given = {
            **parameters,
            "bpm": found["bpm"],
            "beats_per_bar": found["beats_per_bar"],
        }
        if given.get("downbeat") in (None, AUTO):
            given["downbeat"] = found["downbeat"]
        note = (
            f"found {found['bpm']:g} BPM, {found['beats_per_bar']:g} beats a bar, a bar at "
            f"{found['downbeat']:.3f} s; type them where that is not so"
        )
        return given, note

    async def offsets(self, job: Job, number: int) -> dict[str, Any] | None:
        """How far the beats of a take lie from its grid; None where none are found.

        Args:
            job: which is done, and has a grid.
            number: of the take.

        Raises:
            RefusalError: there is no tracker.
        """
        result, path = job.result or {}, self._store.take_path(job, number)
        if path is not None:
            await asyncio.to_thread(self._store.present, path)
        task = {
            "kind": "beat_offsets",
            "path": str(path),
            "grid": result["grid"],
            "join": result["join"],
        }
        found: dict[str, Any] | None = (await self._measured(task))["offsets"]
        return found

    async def _measured(self, task: dict[str, Any]) -> dict[str, Any]:
        self.check(True)
        try:
            return await self._worker.run(task)
        except WorkerDiedError:
            raise RefusalError(422, "finding beats failed; type the tempo") from None
        except TaskError as error:
            # What the library says is for a command line.
            raise RefusalError(422, str(error).replace(", such as --bpm 93", "")) from None
