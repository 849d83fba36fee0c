"""Takes as files for people: which part, in which format, under which name, with which tags."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .. import outputs
from ..atomic import shortened
from ..audio import Tags
from ..cuts import Cut, comment_for, tags_for
from .exceptions import BusyError, RefusalError, TaskError, WorkerDiedError
from .jobs.kept import WHOLE_JOB
from .jobs.play_on import grid_of
from .jobs.rows import Job
from .jobs.store import Store
from .jobs.take_files import Stretch, stretches
from .workers.client import Worker

Format = Literal["wav16", "wav24", "wav32f", "flac", "mp3"]

_ENCODINGS: dict[Format, tuple[str, str | None, str]] = {
    "wav16": (".wav", "PCM_16", "audio/wav"),
    "wav24": (".wav", "PCM_24", "audio/wav"),
    "wav32f": (".wav", "FLOAT", "audio/wav"),
    "flac": (".flac", "PCM_24", "audio/flac"),
    "mp3": (".mp3", None, "audio/mpeg"),
}

MOST_BYTES = 512 << 20
"""Of the files that are kept for the next request; beyond it the oldest go."""

_IN_USE_SECONDS = 120.0
"""After its last request a file is left alone: its response may be on its way."""

_LONGEST_NAME = 100
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]+')


@dataclass(frozen=True)
class Exported:
    """A file, its name for people, and its media type."""

    path: Path
    name: str
    media_type: str


class Exports:
    """Makes files of takes, and keeps the last ones.

    Args:
        store: of the jobs; the files lie in a folder of its own beside them.
        worker: of the role `exporter`.
        clock: seconds since 1970, as files have them.
    """

    def __init__(
        self, store: Store, worker: Worker, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._worker, self._clock = store, worker, clock
        self._folder = store.exports
        shutil.rmtree(self._folder, ignore_errors=True)
        self._making: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        """End the worker."""
        await self._worker.stop()

    async def file(self, job: Job, number: int, cut: Cut, format_: Format) -> Exported:
        """Make a file of a take, or find the one that was made before.

        Args:
            job: which is done.
            number: of a take that there is.
            cut: which part of it.
            format_: of the file.

        Raises:
            RefusalError: the format cannot hold it.
            BusyError: the disk is full.
        """
        suffix, subtype, media_type = _ENCODINGS[format_]
        result = job.result or {}
        name = file_names(self._store, job, number)[cut]
        start = start_of(result, cut)
        stop = result["takes"][number - 1]["frames"]
        if start >= stop:
            raise RefusalError(422, "there is nothing in this part of the take")
        sources = self._sources(job, number, format_, start, stop)
        task = {
            "kind": "export",
            "stretches": [each.to_json() for each in sources],
            "subtype": subtype,
            "tags": asdict(_tags(self._store, job, number, cut, stop - start)),
        }
        key = hashlib.sha256(json.dumps(task).encode()).hexdigest()[:32]
        path = self._folder / f"{key}{suffix}"
        async with self._making.setdefault(key, asyncio.Lock()):
            if not await asyncio.to_thread(self._touched, path):
                for each in sources:
                    await asyncio.to_thread(self._store.present, each.path)
                await asyncio.to_thread(self._make_room, 4 * 4 * (stop - start))
                await self._make({**task, "to": str(path)})
        self._making.pop(key, None)
        return Exported(path, f"{name}{suffix}", media_type)

    def _sources(
        self, job: Job, number: int, format_: Format, start: int, stop: int
    ) -> list[Stretch]:
        """Where the samples come from: 16 bits as the take has them, and else unrounded."""
        folder = self._store.attempt_folder(job)
        assert job.result is not None  # noqa: S101 - it is done
        if format_ == "wav16":
            return [Stretch(folder / job.result["takes"][number - 1]["file"], start, stop)]
        input_ = self._store.input_path(job.input)
        return stretches(job.result, number, folder, input_, start, stop)

    async def _make(self, task: dict[str, Any]) -> None:
        try:
            await self._worker.run(task)
        except WorkerDiedError:
            raise RefusalError(422, "this file cannot be made; try another format") from None
        except TaskError as error:
            raise RefusalError(422, str(error)) from None

    def _touched(self, path: Path) -> bool:
        """Whether a file is there; if so, it is used now."""
        with suppress(OSError):
            os.utime(path)
            return True
        return False

    def _make_room(self, more: int) -> None:
        """Remove the oldest files, and see that the disk has room for another one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found = sorted((path.stat().st_mtime, path) for path in self._folder.iterdir())
        total = sum(path.stat().st_size for _, path in found)
        for used, path in found:
            if total <= MOST_BYTES or self._clock() - used < _IN_USE_SECONDS:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
        if shutil.disk_usage(self._folder).free < more:
            raise BusyError("the disk of this computer is full; make room and try again", 60)


def start_of(result: dict[str, Any], cut: Cut) -> int:
    """The first sample of a part of a take."""
    return int({"whole": 0, "new": result["join"], "loop": result.get("loop", 0)}[cut])


def title_of(store: Store, job: Job, number: int) -> str:
    """What a take is called: by its user, by its input, or by its words."""
    marks = store.kept.marks(job.id)
    for n in (number, WHOLE_JOB):
        if n in marks and marks[n].name:
            return marks[n].name
    input_ = store.input(job.input)
    if input_ is not None and input_.name:
        return outputs.begin_of(Path(input_.name))
    return " ".join(job.spec.text_of_takes[number - 1].split())


def file_names(store: Store, job: Job, number: int) -> dict[Cut, str]:
    """The name of the file of each part of a take, without its ending.

    Args:
        store: of the job.
        job: which is done.
        number: of a take that there is.
    """
    result = job.result or {}
    begin = _NOT_IN_NAMES.sub("-", title_of(store, job, number)).strip(" .-") or "segue"
    begin = shortened(begin, _LONGEST_NAME).rstrip(" .-")
    take, rate, grid = result["takes"][number - 1], result["sample_rate"], grid_of(result)
    cuts: tuple[Cut, ...] = ("whole", "new", "loop")
    names: dict[Cut, str] = {}
    for cut in cuts:
        if grid is None:
            names[cut] = f"{begin}-seed{take['seed']}{'' if cut == 'whole' else f'-{cut}'}"
        else:
            bars = (take["frames"] - start_of(result, cut)) / rate / grid.bar_seconds
            names[cut] = outputs.told(begin, bars, grid.bpm, take["seed"], cut)
    return names


def _tags(store: Store, job: Job, number: int, cut: Cut, samples: int) -> Tags:
    result, spec = job.result or {}, job.spec
    seed = result["takes"][number - 1]["seed"]
    comment = comment_for(spec.model, seed, spec.text_of_takes[number - 1])
    title = title_of(store, job, number) or "generated"
    on_a_bar = cut != "whole" or result.get("loop", 0) == 0
    return tags_for(title, comment, grid_of(result), samples, result["sample_rate"], on_a_bar)
