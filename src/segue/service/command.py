"""`segue serve`."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints import hub
from ..errors import OutputError, RequestError
from ..model import CPU_ENGINES, ENGINES, MAX_THREADS, default_batch_rows, engine_for
from ..options import HelpFormatter, add_threads_option
from ..storage import place
from .adapters import FOLDER as ADAPTERS_FOLDER
from .adapters import adapters_in
from .clients import read as read_clients
from .devices import cores, gpus
from .logs import FORMATS
from .settings import GIB, Limits, Settings, state_folder

MAX_WORKERS = 1024
CLUSTER_WORKERS = (1, 16)

MAX_BATCH_ROWS = 128
"""More would not gain: steps take longer in proportion."""

_FILES = 8192


def add_parser(commands: Any) -> None:
    """Add `segue serve`."""
    parser = commands.add_parser(
        "serve",
        description="Serve the plugin, and a page at http://localhost:8000, until it is stopped. "
        "What waits or plays then goes on with the next start.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host",
        default=Settings.host,
        help="the address to listen on; any but this computer's own wants --token",
    )
    parser.add_argument("--port", type=int, default=Settings.port, help="the port to listen on")
    parser.add_argument(
        "--token",
        help="what every request must bring, as 'Authorization: Bearer TOKEN' "
        "(default: $SEGUE_TOKEN; from there it does not show in the list of processes)",
    )
    parser.add_argument(
        "--clients",
        metavar="FILE",
        type=Path,
        help="a TOML file of clients, each with a token and limits of its own, in the place of "
        "--token; a client sees its own jobs alone; SIGHUP has it read again "
        "(default: $SEGUE_CLIENTS)",
    )
    parser.add_argument(
        "--default-model", default=hub.BUILT_IN, help="what plays when a request names no model"
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        type=place,
        action="append",
        default=[],
        help="a checkpoint, or a folder of checkpoints, to be offered too, here or at an address "
        "such as s3://bucket/models; may be repeated",
    )
    parser.add_argument(
        "--recipes",
        metavar="DIR",
        type=Path,
        help="a folder of recipes that segue recipe wrote, which a request may name as its "
        "quantization_mode (default: recipes in the folder of the state)",
    )
    parser.add_argument(
        "--adapters",
        metavar="DIR",
        type=place,
        help="a folder of LoRA adapters, each a folder in PEFT's layout, which a request may name, "
        "here or at an address such as s3://bucket/adapters "
        "(default: $G4L_ADAPTERS, or adapters in the folder of the state)",
    )
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the models")
    add_threads_option(parser)
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        help="where jobs and results are kept (default: $SEGUE_STATE, or where this platform has "
        "such things)",
    )
    parser.add_argument(
        "--keep",
        metavar="HOURS",
        type=float,
        default=Settings.keep_seconds / 3600,
        help="how long finished music is kept; with a star it is kept until it is removed",
    )
    parser.add_argument(
        "--max-queue", metavar="N", type=int, default=Limits.waiting, help="jobs that may wait"
    )
    parser.add_argument(
        "--batch-rows",
        metavar="N",
        type=int,
        help="rows of jobs that may run together, a job having one for each take, two with a "
        "description; 1 runs one job at a time (default: 4 on processors, else 1)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="processes that generate, a job going to one that holds its model; MIN-MAX starts "
        "those beyond MIN when they are needed, and ends them after a minute without work "
        "(default: one for each NVIDIA card, else one; in a cluster 1-16)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="the Ray cluster whose machines generate, as HOST:PORT of its head, or auto for the "
        "one that this machine is part of; needs pip install 'segue[cluster]'",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="postgresql://USER@HOST/NAME of a database that several of these share, as they share "
        "--state-dir, to work off one queue; the password comes from $PGPASSWORD or ~/.pgpass "
        "(default: $SEGUE_DATABASE, or a file in the folder of the state); needs "
        "pip install 'segue[postgres]'",
    )
    parser.add_argument(
        "--lease",
        metavar="SECONDS",
        type=float,
        default=Settings.lease_seconds,
        help="with --database: after so long a silence of one, the others run its jobs",
    )
    parser.add_argument(
        "--results",
        metavar="ADDRESS",
        help="an address such as s3://bucket/segue, where inputs and results are kept, too; with "
        "--database, all that share it name the same, and each has a --state-dir of its own",
    )
    parser.add_argument(
        "--max-disk",
        metavar="GB",
        type=float,
        default=Settings.max_disk_bytes / GIB,
        help="what inputs and results may take; the oldest go first, those with a star never",
    )
    parser.add_argument(
        "--log-format", choices=FORMATS, default="text", help="how log lines are written"
    )
    parser.add_argument("--verbose", action="store_true", help="log every request")
    parser.set_defaults(run=run)


def settings_of(options: argparse.Namespace) -> Settings:
    """What the options come to.

    Raises:
        RequestError: one is out of range, or they contradict each other.
    """
    from .quantization import from_environment

    def demand(holds: bool, line: str) -> None:
        if not holds:
            raise RequestError(line)

    demand(0 <= options.port <= 65535, f"--port must lie between 0 and 65535, not {options.port}")
    demand(0 < options.keep < 10_000, f"--keep must be more than 0 hours, not {options.keep:g}")
    demand(options.max_queue >= 1, f"--max-queue must be 1 or more, not {options.max_queue}")
    rows = options.batch_rows
    demand(
        rows is None or 1 <= rows <= MAX_BATCH_ROWS,
        f"--batch-rows must lie between 1 and {MAX_BATCH_ROWS}, not {rows}",
    )
    demand(options.max_disk > 0, f"--max-disk must be more than 0 GB, not {options.max_disk:g}")
    demand(
        1 <= options.lease <= 3600, f"--lease must lie between 1 and 3600 s, not {options.lease:g}"
    )
    database = options.database or os.environ.get("SEGUE_DATABASE") or None
    demand(
        database is None or database.startswith(("postgresql://", "postgres://")),
        "--database must be a URL such as postgresql://USER@HOST/NAME",
    )
    demand(
        options.results is None or isinstance(place(options.results), str),
        "--results must be an address such as s3://bucket/segue; a folder that all mount is "
        "--state-dir",
    )
    if options.threads is not None:
        demand(
            1 <= options.threads <= MAX_THREADS,
            f"threads must lie between 1 and {MAX_THREADS}, not {options.threads}",
        )
        demand(
            options.engine != "mlx",
            "threads are counted on processors alone; leave --engine mlx out",
        )
    for folder in options.models:
        if isinstance(folder, str):  # an address, which is listed when the service starts
            continue
        # Not Path's own, which raises for some names and folders.
        there = os.path.isdir(folder)  # noqa: PTH112
        demand(there, f"--models {folder}: there is no such folder, or it cannot be reached")
        demand(
            os.access(folder, os.R_OK | os.X_OK),
            f"--models {folder}: the folder cannot be read (Permission denied)",
        )
    if options.recipes is not None:
        there = os.path.isdir(options.recipes)  # noqa: PTH112
        demand(there, f"--recipes {options.recipes}: there is no such folder")
    adapters = options.adapters
    if adapters is None and (typed := os.environ.get(ADAPTERS_FOLDER)):
        adapters = place(os.path.expanduser(typed))  # noqa: PTH111 - Path's own may raise
    if isinstance(adapters, str):
        adapters_in(adapters)  # says what is wrong with the address
    elif adapters is not None:
        there = os.path.isdir(adapters)  # noqa: PTH112
        named = "--adapters" if options.adapters is not None else ADAPTERS_FOLDER
        demand(there, f"{named} {adapters}: there is no such folder")
    token = options.token or os.environ.get("SEGUE_TOKEN") or None
    clients = options.clients or os.environ.get("SEGUE_CLIENTS") or None
    demand(
        token is None or clients is None,
        "--clients and --token (or SEGUE_TOKEN) both say who may come; drop one",
    )
    if clients is not None:
        clients = Path(clients).absolute()
        read_clients(clients)
    engine = engine_for(options.engine)
    cards = gpus() if engine == "mlx" else ()
    if options.workers is not None:
        workers = _workers(options.workers)
    else:
        workers = CLUSTER_WORKERS if options.cluster else (max(1, len(cards)),) * 2
    threads = options.threads
    shared = workers[1] > 1 and engine in CPU_ENGINES and not options.cluster
    if threads is None and shared:
        threads = max(1, cores() // workers[1])  # they share the processors
    settings = Settings(
        state=(options.state_dir or state_folder()).absolute(),
        host=options.host,
        port=options.port,
        token=token,
        clients=clients,
        engine=options.engine,
        threads=threads,
        default_model=options.default_model,
        models=tuple(map(_absolute, options.models)),
        quantization=from_environment(os.environ),
        recipes=None if options.recipes is None else options.recipes.absolute(),
        adapters=None if adapters is None else _absolute(adapters),
        keep_seconds=options.keep * 3600,
        max_disk_bytes=round(options.max_disk * GIB),
        batch_rows=default_batch_rows(options.engine) if rows is None else rows,
        workers=workers,
        gpus=() if options.cluster else cards,
        cluster=options.cluster,
        database=database,
        lease_seconds=options.lease,
        results=options.results,
        limits=Limits(waiting=options.max_queue),
    )
    demand(
        settings.on_loopback or token is not None or clients is not None,
        f"--host {options.host} lets other computers in; protect it with --token, or set "
        "SEGUE_TOKEN; or with --clients",
    )
    return settings


def _absolute(folder: Path | str) -> Path | str:
    return folder if isinstance(folder, str) else folder.absolute()


def _workers(typed: str) -> tuple[int, int]:
    """Read `N` or `MIN-MAX`.

    Raises:
        RequestError: it is neither, or out of range.
    """
    least, dash, most = typed.partition("-")
    try:
        numbers = int(least), int(most if dash else least)
    except ValueError:
        numbers = (0, 0)
    if not 1 <= numbers[0] <= numbers[1] <= MAX_WORKERS:
        raise RequestError(
            f"--workers must be a number between 1 and {MAX_WORKERS}, or two such as 1-4, not "
            f"{typed}"
        )
    return numbers


def run(options: argparse.Namespace) -> int:
    """`segue serve`: listen until it is stopped."""
    settings = settings_of(options)
    # Late: nothing else needs them, and they take a while to import.
    from .app import make_app
    from .http.server import make_server
    from .jobs.models import ModelList
    from .jobs.store import Store
    from .logs import set_up

    ModelList(settings.models).find(settings.default_model)
    if settings.cluster is not None:
        from ..cluster import connect
        from .cluster import with_resources

        connect(settings.cluster)
        settings = with_resources(settings)
        if settings.worker_gpus and options.batch_rows is None:
            settings = replace(settings, batch_rows=1)  # as on any other GPU
    set_up(options.log_format, options.verbose)
    _allow_many_files()
    with _listening(settings) as listener:
        database = None
        if settings.database is not None:
            from .jobs.postgres_database import PostgresDatabase

            database = PostgresDatabase(settings.database)
        store = Store(
            settings.state,
            database=database,
            lease_seconds=settings.lease_seconds,
            results=settings.results,
        )
        app, service = make_app(settings, store)
        server = make_server(app, service)
        # uvicorn stops in an orderly way, and then raises the signal again for whoever had it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        address = settings.address(listener.getsockname()[1])
        with suppress(OutputError, BrokenPipeError):  # it serves, whether that can be said or not
            print(f"segue serves {address}  (Ctrl-C stops it)", flush=True)  # noqa: T201
        server.run(sockets=[listener])
    return 0


def _allow_many_files() -> None:
    """A connection takes a file or two, and some systems give 256 to whoever does not ask."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listening(settings: Settings) -> socket.socket:
    """A socket that listens.

    Raises:
        RequestError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(
            f"cannot listen on {settings.host}:{settings.port} ({reason}); stop what uses it, "
            "or choose another --port"
        ) from None
    return listener
