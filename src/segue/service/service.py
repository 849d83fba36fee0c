"""All that a running service is made of, and how audio becomes a job."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import Request

from ..errors import SegueError
from .exceptions import BusyError, RefusalError, TaskError, WorkerDiedError
from .http.open_streams import OpenStreams
from .http.parameters import Parameters, PluginParameters, asked
from .http.uploads import Bodies
from .jobs.admission import check, planned, seed_for
from .jobs.downloads import Downloads
from .jobs.models import Offer, Offered
from .jobs.queue import Jobs
from .jobs.store import Input, Job, Store
from .metrics import Metrics
from .quantization import chosen
from .settings import MIB, Settings
from .workers.client import Worker

log = logging.getLogger("segue.service")

_SPARE_BYTES = 256 * MIB
"""What the disk must have left beyond an upload."""


class Service:
    """The parts, put together.

    Attributes:
        settings: what it was started with.
        version: of segue.
        store, offer, downloads, jobs, bodies, streams, metrics: see their modules.
        stopping: set when streams shall end.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.version = version("segue")
        self.metrics = Metrics()
        self.offer = Offer(settings.models)
        self.downloads = Downloads(store, lambda: Worker("downloader", {}))
        self.player = Worker(
            "player",
            {
                "engine": settings.engine,
                "threads": settings.threads,
                "quantized_folder": str(store.variants),
                "max_quantized_bytes": settings.max_variants_bytes,
                "max_loaded_bytes": settings.max_loaded_bytes,
            },
        )
        self._reader = Worker("reader", {"limits": asdict(settings.limits)})
        self.jobs = Jobs(settings, store, self.offer, self.downloads, self.player, self.metrics)
        self.bodies = Bodies(store.uploads, settings)
        self.streams = OpenStreams(settings.limits.streams)
        self.stopping = asyncio.Event()
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to work."""
        await self.jobs.start()
        if not self.jobs.queued():
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        """Have the default model ready before anybody asks, if it is here."""
        try:
            model = await asyncio.to_thread(self.offer.find, self.settings.default_model)
            if not model.missing:
                await self.jobs.warm(model)
        except SegueError as error:
            log.warning("no default model", extra={"reason": str(error)})

    async def close(self) -> None:
        """Stop at once; what plays is queued again, and goes on with the next start."""
        self.stopping.set()
        if self._warming is not None:
            self._warming.cancel()
        await self.jobs.close()
        await self._reader.stop()
        await asyncio.to_thread(self.store.close)

    # --- Audio to a job -------------------------------------------------------------------------

    async def read_upload(self, path: Path) -> tuple[Input, list[str]]:
        """Decode an upload into the store, in the reader's process; what is to be said of it, too.

        Raises:
            RefusalError: it is no audio, or more than is taken.
            BusyError: there is no room for it.
        """
        self.jobs.check_room(path.stat().st_size)
        if shutil.disk_usage(self.store.folder).free < 4 * path.stat().st_size + _SPARE_BYTES:
            raise BusyError("the disk of this computer is full; make room and try again", 60)
        name, to = self.store.new_input()
        limit = self.settings.limits.read_seconds
        try:
            async with asyncio.timeout(limit * 4):  # others may be before it
                read = await self._reader.run(
                    {"kind": "decode_audio", "path": str(path), "to": str(to)}
                )
        except WorkerDiedError:
            line = "the audio cannot be read: it breaks the decoder; save it anew as WAV"
            raise RefusalError(422, line) from None
        except TimeoutError:
            raise RefusalError(422, "the audio takes too long to read; send it as WAV") from None
        except TaskError as error:
            raise RefusalError(422, str(error)) from None
        notes = read.pop("notes")
        return Input(name, **read), notes

    async def new_job(
        self,
        kind: str,
        given: Parameters,
        audio: Path | Input,
        start: float | None,
        before: Job | None = None,
    ) -> Job:
        """Queue a job.

        Args:
            kind: the route that it came by.
            given: its parameters.
            audio: an upload, or the input of an earlier job.
            start: where the prompt begins, in seconds; None puts it at the end.
            before: the job that is retried; what `given` leaves open is as it was there.

        Raises:
            SegueError: there is no such model or quantization, or length and options of the request
                leave nothing to generate.
            RefusalError: the audio does not do.
            BusyError: there is no room for another job.
        """
        known = None if before is None else before.asked
        self.jobs.check_room()
        model = await self._model(given, known)
        request = asked(given, known)
        if not request["text"].strip() and known is None and given.description is None:
            request["text"] = model.description
        reduced = isinstance(given, PluginParameters)
        # Chosen now and kept, so that a job that is interrupted plays the same again.
        request["seed"] = seed_for(given.seed, request["variations"], reduced)
        request["start"] = start
        check(request)
        if request["output_seconds"] <= request["prompt_seconds"]:
            raise RefusalError(
                422,
                f"the prompt of {request['prompt_seconds']:g} s leaves nothing to play of "
                f"{request['output_seconds']:g} s; make it shorter",
            )
        mode = given.quantization_mode
        if mode is None and known is not None and known["demanded"]:
            mode = known["quantization"]
        quantization = chosen(mode, self.settings.quantization)
        made = not isinstance(audio, Input)
        if isinstance(audio, Input):
            input_, notes = audio, [] if known is None else known["request"].get("notes", [])
        else:
            input_, notes = await self.read_upload(audio)
        request["notes"] = notes
        try:
            planned(request, input_.frames, input_.sample_rate)
            await self.jobs.make_room()
            return await self.jobs.submit(kind, model, quantization, request, input_)
        except BaseException:
            if made:
                self.store.input_path(input_.id).unlink(missing_ok=True)
            raise

    async def _model(self, given: Parameters, known: dict[str, Any] | None) -> Offered:
        name = given.model_name or (known["model"] if known else self.settings.default_model)
        return await asyncio.to_thread(self.offer.find, name)


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
