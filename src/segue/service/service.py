"""The parts of a running service, and how a request becomes a job."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from fastapi import Request

from ..errors import SegueError
from .exceptions import BusyError, RefusalError, TaskError, WorkerDiedError
from .http.open_streams import OpenStreams
from .http.schemas.requests import Parameters
from .http.uploads import Uploads
from .jobs.admission import Reservation
from .jobs.downloads import Downloads
from .jobs.models import ModelList
from .jobs.queue import Jobs
from .jobs.rows import Input, Job
from .jobs.spec import JobSpec
from .jobs.store import Store
from .metrics import Metrics
from .quantization import chosen, recipes_in
from .settings import MIB, Settings
from .workers.client import Worker

log = logging.getLogger("segue.service")

_SPARE_BYTES = 256 * MIB
"""What the disk must have left beyond an upload."""


class Service:
    """The parts, put together.

    Args:
        settings: of the service.
        store: opened; it is closed with the service.

    Attributes:
        settings: what it was started with.
        version: of segue.
        store, models, downloads, jobs, uploads, streams, metrics: see their modules.
        generate_worker: the process that generates.
        stopping: set when streams shall end.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.version = version("segue")
        self.metrics = Metrics()
        self.models = ModelList(settings.models)
        self.downloads = Downloads(store, lambda: Worker("downloader", {}))
        self.generate_worker = Worker(
            "player",
            {
                "engine": settings.engine,
                "threads": settings.threads,
                "quantized_folder": str(store.variants),
                "max_quantized_bytes": settings.max_variants_bytes,
                "max_loaded_bytes": settings.max_loaded_bytes,
                "batch_rows": settings.batch_rows,
            },
            at_once=settings.batch_rows,
        )
        self._decode_worker = Worker("reader", {"limits": asdict(settings.limits)})
        self.jobs = Jobs(
            settings, store, self.models, self.downloads, self.generate_worker, self.metrics
        )
        self.uploads = Uploads(store.uploads, settings)
        self.streams = OpenStreams(settings.limits.streams)
        self.stopping = asyncio.Event()
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to work."""
        await self.jobs.start()
        if not self.jobs.queued():
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        """Load the default model before a request names it, if it is on this machine."""
        try:
            model = await asyncio.to_thread(self.models.find, self.settings.default_model)
            if not model.missing:
                await self.jobs.warm(model, self.settings.quantization)
        except SegueError as error:
            log.warning("no default model", extra={"reason": str(error)})

    async def close(self) -> None:
        """Stop at once; a job that runs is queued again, and resumes with the next start."""
        self.stopping.set()
        if self._warming is not None:
            self._warming.cancel()
        await self.jobs.close()
        await self._decode_worker.stop()
        await asyncio.to_thread(self.store.close)

    # --- From a request to a job ------------------------------------------------------------------

    async def new_job(
        self,
        kind: str,
        given: Parameters,
        audio: Path | Input,
        reservation: Reservation,
        earlier: JobSpec | None = None,
    ) -> Job:
        """Build the spec of a request, check all of it, and queue the job.

        Args:
            kind: the route that it came by, see `JobSpec`.
            given: the parameters that the client sent.
            audio: an upload, or the input of an earlier job.
            reservation: of room for the job.
            earlier: the job that is retried; what `given` leaves open is as it was there.

        Raises:
            SegueError: there is no such model or quantization, or length and options of the request
                leave nothing to generate.
            RefusalError: the audio cannot be decoded, or breaks a limit.
            BusyError: there is no room for the audio.
        """
        settings = self.settings
        name = (given.model_name or "").strip()
        name = name or (earlier.model if earlier else settings.default_model)
        model = await asyncio.to_thread(self.models.find, name)
        recipes = await asyncio.to_thread(recipes_in, settings.recipes_folder)
        quantization = await asyncio.to_thread(
            chosen, given.quantization_mode, settings.quantization, recipes
        )
        if given.quantization_mode is None and earlier and earlier.quantization.explicit:
            quantization = earlier.quantization
        parameters = given.parameters()
        if earlier is None:
            parameters.setdefault("text", model.description)
        spec = JobSpec.build(
            kind,
            model.path,
            quantization,
            parameters,
            earlier=earlier,
            reduce_seed=given.reduces_seed,
        )
        if isinstance(audio, Input):
            reservation.hold(0)
            input_ = audio
        else:
            reservation.hold(audio.stat().st_size)
            input_, notes = await self.decode(audio)
            spec = replace(spec, notes=notes)
        try:
            spec.plan(input_.frames, input_.sample_rate)
            await self.jobs.make_room()
            return await self.jobs.submit(spec, model, input_, reservation)
        except BaseException:
            if input_ is not audio:
                self.store.input_path(input_.id).unlink(missing_ok=True)
            raise

    async def decode(self, upload: Path) -> tuple[Input, tuple[str, ...]]:
        """Decode an audio file into the store, in a worker process.

        Args:
            upload: in any format that segue reads.

        Returns:
            The input, and what the user should know about it, one line each.

        Raises:
            RefusalError: it cannot be decoded, or breaks a limit.
            BusyError: the disk is full.
        """
        size = upload.stat().st_size
        if shutil.disk_usage(self.store.folder).free < 4 * size + _SPARE_BYTES:
            raise BusyError("the disk of this computer is full; make room and try again", 60)
        name, to = self.store.new_input()
        task = {"kind": "decode_audio", "path": str(upload), "to": str(to)}
        try:
            # Others may be before it.
            async with asyncio.timeout(self.settings.limits.read_seconds * 4):
                decoded = await self._decode_worker.run(task)
        except WorkerDiedError:
            line = "the audio cannot be read: it breaks the decoder; save it anew as WAV"
            raise RefusalError(422, line) from None
        except TimeoutError:
            raise RefusalError(422, "the audio takes too long to read; send it as WAV") from None
        except TaskError as error:
            raise RefusalError(422, str(error)) from None
        notes = tuple(decoded.pop("notes"))
        return Input(name, **decoded), notes


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
