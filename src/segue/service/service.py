"""The parts of a running service, and how a request becomes a job."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import Request

from ..checkpoints.abilities import Abilities
from ..errors import RequestError, SegueError
from .adapters import adapters_in
from .adapters import chosen as chosen_adapters
from .clients import Client, Clients
from .devices import VISIBLE, half_of_memory
from .exceptions import BusyError, RefusalError, TaskError, WorkerDiedError
from .exports import Exports
from .http.open_streams import OpenStreams
from .http.schemas.native import NativeOptions
from .http.schemas.requests import Parameters
from .http.uploads import Uploads
from .jobs.admission import Reservation
from .jobs.downloads import Downloads
from .jobs.models import ModelList
from .jobs.play_on import inherited, new_piece
from .jobs.queue import Jobs
from .jobs.rows import Input, Job, Parent
from .jobs.spec import JobSpec
from .jobs.store import Store
from .metrics import Metrics
from .quantization import chosen, recipes_in
from .settings import MIB, Settings
from .tempo import Tempo, checkable, is_auto
from .threads import run_to_end
from .workers.client import Worker
from .workers.pool import Pool

log = logging.getLogger("segue.service")

CLIENT = "segue.client"
"""Where a request's ASGI scope has who sends it."""

_SPARE_BYTES = 256 * MIB
"""What the disk must have left beyond an upload."""


class Service:
    """The parts, put together.

    Args:
        settings: of the service.
        store: opened; it is closed with the service.
        pool: the workers that generate; None makes those of the settings.

    Attributes:
        settings: what it was started with.
        version: of segue.
        store, models, downloads, jobs, uploads, streams, metrics: see their modules.
        tempo, exports: see theirs, too.
        pool: the workers that generate.
        clients: that are told apart; None where all are one.
        stopping: set when streams shall end.
    """

    def __init__(self, settings: Settings, store: Store, pool: Pool | None = None) -> None:
        self.settings, self.store = settings, store
        self.version = version("segue")
        self.metrics = Metrics()
        self.clients = None if settings.clients is None else Clients(settings.clients)
        self.models = ModelList(settings.models)
        self.downloads = Downloads(store, lambda: Worker("downloader", {}))
        self.pool = pool or _pool(settings, store)
        self._decode_worker = Worker("reader", {"limits": asdict(settings.limits)})
        self.tempo = Tempo(store, Worker("measurer", {}))
        self.exports = Exports(store, Worker("exporter", {}))
        self.jobs = Jobs(settings, store, self.models, self.downloads, self.pool, self.metrics)
        self.uploads = Uploads(store.uploads, settings)
        self.streams = OpenStreams(settings.limits.streams)
        self.stopping = asyncio.Event()
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to work."""
        if self.clients is not None:
            with suppress(RuntimeError):  # outside of a process's first thread, as in tests
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGHUP, self.clients.reload)
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
        await self.tempo.close()
        await self.exports.close()
        await asyncio.to_thread(self.store.close)

    # --- From a request to a job ------------------------------------------------------------------

    async def new_job(
        self,
        kind: str,
        given: Parameters,
        audio: Path | Input | None,
        reservation: Reservation,
        earlier: JobSpec | None = None,
        melody: Path | None = None,
        parent: Parent | None = None,
    ) -> Job:
        """Build the spec of a request, check all of it, and queue the job.

        Args:
            kind: the route that it came by, see `JobSpec`.
            given: the parameters that the client sent.
            audio: an upload, or a kept input; None for music from words alone, or with a parent.
            reservation: of room for the job, by whose it is.
            earlier: the job that is retried; what `given` leaves open is as it was there.
            melody: an upload that a melody model follows.
            parent: the take that is played on from; what `given` leaves open is as it was there.

        Raises:
            SegueError: there is no such model or quantization, or length and options of the request
                leave nothing to generate.
            RefusalError: the audio cannot be decoded, or breaks a limit.
            BusyError: there is no room for the audio.
            OverLimitError: the client has as much as it may.
        """
        settings = self.settings
        above = None if parent is None else self.store.job(parent.job)
        before = earlier if above is None else above.spec
        name = (given.model_name or "").strip()
        name = name or (before.model if before else settings.default_model)
        model = await asyncio.to_thread(self.models.find, name)
        recipes = await asyncio.to_thread(recipes_in, settings.recipes_folder)
        quantization = await asyncio.to_thread(
            chosen, given.quantization_mode, settings.quantization, recipes
        )
        if given.quantization_mode is None and before and before.quantization.explicit:
            quantization = before.quantization
        parameters = given.parameters()
        if above is not None and parent is not None:
            parameters = inherited(above, parent.take, model.path, parameters)
        elif earlier is None and not parameters.get("texts"):
            parameters.setdefault("text", model.description)
        if audio is None and above is None:
            parameters |= {"start": 0.0, "prompt_seconds": 0.0}
        if isinstance(given, NativeOptions) and given.adapters is not None:
            known = await asyncio.to_thread(adapters_in, settings.adapters_folder)
            parameters["adapters"] = chosen_adapters(given.adapters, known)
        build = partial(
            JobSpec.build,
            kind,
            model.path,
            quantization,
            earlier=earlier,
            reduce_seed=given.reduces_seed,
        )
        auto = is_auto(parameters)
        if auto:
            self.tempo.check(audio is not None or above is not None)
        spec = build(checkable(parameters) if auto else parameters)
        abilities = await asyncio.to_thread(lambda: model.abilities)
        follows = melody is not None or spec.melody is not None
        _check_music(spec, abilities, follows)
        uploads = [path for path in (audio, melody) if isinstance(path, Path)]
        self.jobs.limits.check_seconds(reservation.client, spec)
        reservation.hold(sum(path.stat().st_size for path in uploads))
        decoded: list[Input] = []
        kept = [audio.id] if isinstance(audio, Input) else []
        if spec.melody is not None:
            kept.append(spec.melody)
        try:
            with self.store.holding(*kept):
                if above is not None and parent is not None:
                    input_ = await run_to_end(new_piece, self.store, above, parent)
                    decoded.append(input_)
                elif isinstance(audio, Input):
                    input_ = audio
                elif audio is None:
                    input_ = self.store.new_silence(abilities or Abilities())
                else:
                    input_, notes = await self.decode(audio)
                    input_ = replace(input_, name=given.file_name)
                    decoded.append(input_)
                    spec = replace(spec, notes=notes)
                if auto:
                    typed, note = await self.tempo.resolved(parameters, spec, input_)
                    spec = replace(build(typed), notes=(*spec.notes, note))
                followed = None
                if melody is not None:
                    followed, notes = await self.decode(melody, "melody")
                    decoded.append(followed)
                    spec = replace(spec, melody=followed.id, notes=(*spec.notes, *notes))
                spec.check_length(input_.frames, input_.sample_rate, settings.limits.output_seconds)
                await self.jobs.make_room()
                return await self.jobs.submit(spec, model, input_, reservation, followed, parent)
        except BaseException:
            for each in decoded:
                self.store.input_path(each.id).unlink(missing_ok=True)
            raise

    async def keep_input(
        self, upload: Path, name: str, client: Client
    ) -> tuple[Input, tuple[str, ...]]:
        """Keep audio for jobs to come.

        Args:
            upload: in any format that segue reads.
            name: of the file, where the client said it.
            client: whose it is.

        Returns:
            See `decode`, which says what is raised, too.
        """
        input_, notes = await self.decode(upload)
        try:
            await self.jobs.make_room()
            kept = replace(input_, name=name, client=client.name)
            return await run_to_end(self.store.add_input, kept), notes
        except BaseException:
            self.store.input_path(input_.id).unlink(missing_ok=True)
            raise

    async def decode(self, upload: Path, what: str = "audio") -> tuple[Input, tuple[str, ...]]:
        """Decode an audio file into the store, in a worker process.

        Args:
            upload: in any format that segue reads.
            what: it is, for the lines that speak of it.

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
            line = f"the {what} cannot be read: it breaks the decoder; save it anew as WAV"
            raise RefusalError(422, line) from None
        except TimeoutError:
            line = f"the {what} takes too long to read; send it as WAV"
            raise RefusalError(422, line) from None
        except TaskError as error:
            line = str(error).replace("the audio", f"the {what}", 1)
            raise RefusalError(422, line) from None
        notes = tuple(n.replace("the audio", f"the {what}", 1) for n in decoded.pop("notes"))
        return Input(name, **decoded), notes


def _pool(settings: Settings, store: Store) -> Pool:
    """The workers that generate: in a cluster, or here, in turn on each card if there are."""
    kept, most = settings.workers
    if settings.cluster is not None:
        from .cluster import workers as in_cluster

        return Pool(in_cluster(settings), kept=kept, batch_rows=settings.batch_rows)
    budget = settings.max_loaded_bytes or half_of_memory()
    options = {
        "engine": settings.engine,
        "threads": settings.threads,
        "quantized_folder": str(store.variants),
        "max_quantized_bytes": settings.max_variants_bytes,
        "max_loaded_bytes": budget,
        "batch_rows": settings.batch_rows,
        "workers": most,
    }
    cards = settings.gpus
    workers = [
        Worker(
            "player",
            options,
            at_once=settings.batch_rows,
            environment={VISIBLE: cards[n % len(cards)]} if cards else None,
            number=n,
        )
        for n in range(most)
    ]
    return Pool(workers, kept=kept, batch_rows=settings.batch_rows, budget=budget)


def _check_music(spec: JobSpec, abilities: Abilities | None, melody: bool) -> None:
    """Check that there is something to begin with, and that the model takes it.

    Args:
        spec: of the job.
        abilities: of its model, if they are known.
        melody: whether there is a melody.

    Raises:
        RequestError: there is not, or it does not.
    """
    if not (spec.prompted or spec.described or melody):
        raise RequestError("there is nothing to begin with: send a description of the music")
    if melody and abilities is not None and not abilities.melody:
        raise RequestError(
            "this model follows no melody; choose one that does, such as facebook/musicgen-melody"
        )


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service


def client_of(request: Request) -> Client:
    """Who sends a request, which needed a token if any does."""
    client: Client = request.scope[CLIENT]
    return client
