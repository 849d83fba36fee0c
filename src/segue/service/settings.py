"""Settings and limits of a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoints.hub import BUILT_IN
from ..errors import RequestError
from .quantization import NONE, Quantization

MIB, GIB = 1 << 20, 1 << 30
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """What a client may send and get.

    Attributes:
        body_bytes: of a request with audio; ten minutes of 16-bit stereo at 44.1 kHz fit in.
        small_body_bytes: of any other request.
        head_seconds: from a connection, or a request's first byte, to the end of its head.
        body_seconds: how long a body may take to arrive, however much it is.
        body_grace_seconds: how long it may take if nothing comes.
        body_bytes_per_second: that earn it another second.
        drain_bytes, drain_seconds: of a body that is refused, and is read nevertheless.
        linger_seconds: from the last answer on a connection to its end, if its client neither
            reads nor closes it.
        send_seconds: how long a client may leave a response unread.
        streams: of one job at once.
        audio_seconds, min_sample_rate, max_sample_rate, max_channels: of the audio.
        audio_samples: of all channels together.
        read_seconds: how long decoding an upload may take.
        output_seconds: of prompt and continuation together.
        variations: takes of a job.
        description: characters.
        adapters: of a job.
        waiting: jobs in the queue.
        undo_seconds: for how long what a user removed can be restored.
    """

    body_bytes: int = 160 * MIB
    small_body_bytes: int = MIB
    head_seconds: float = 20.0
    body_seconds: float = 120.0
    body_grace_seconds: float = 20.0
    body_bytes_per_second: int = 16 << 10
    drain_bytes: int = 1 << 30
    drain_seconds: float = 10.0
    linger_seconds: float = 5.0
    send_seconds: float = 60.0
    streams: int = 8
    audio_seconds: float = 600.0
    min_sample_rate: int = 8_000
    max_sample_rate: int = 192_000
    max_channels: int = 8
    audio_samples: int = 120_000_000
    read_seconds: float = 60.0
    output_seconds: float = 300.0
    variations: int = 4
    description: int = 2_000
    adapters: int = 4
    waiting: int = 100
    undo_seconds: float = 600.0


@dataclass(frozen=True)
class Settings:
    """See the options of `segue serve`.

    Attributes:
        state: the folder that everything is kept in.
        host, port: what is listened on.
        token: what every request must send; None, on loopback only, needs none.
        clients: the file of the clients that are told apart, see `clients`; None for one token.
        engine, threads: see `segue.load`.
        default_model: what generates where a request names no model.
        models: folders whose checkpoints a request may name, too; or addresses of shared storage.
        quantization: where a request names none.
        recipes: the folder of the recipes that a request may name; None is one in `state`.
        adapters: the folder, or the address, of the adapters that a request may name; None is one
            in `state`.
        keep_seconds: how long a finished job is kept that has no star.
        max_disk_bytes: what inputs and results may take together.
        max_variants_bytes: what quantized checkpoints may take.
        batch_rows: rows of jobs that may share a model's steps on one worker, see `JobSpec.rows`;
            with 1, a worker runs one job at a time.
        workers: how many workers generate: as many as are kept, and at most.
        gpus: cards that they are spread over, as `CUDA_VISIBLE_DEVICES` names them.
        max_loaded_bytes: what loaded models of all workers may take in memory, or of each worker in
            a cluster; None is half of the machine's.
        cluster: address of the Ray cluster whose machines generate; None is this machine.
        worker_gpus: cards of the cluster that a worker needs.
        database: URL of the PostgreSQL database that several fronts share; None is one in `state`.
        lease_seconds: how long a front may be silent before others that share it run its jobs.
        results: an address of shared storage for inputs and results, so that fronts need no folder
            in common; None keeps them in `state` alone.
        limits: see `Limits`.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    clients: Path | None = None
    engine: str = "auto"
    threads: int | None = None
    default_model: str = BUILT_IN
    models: tuple[Path | str, ...] = ()
    quantization: Quantization = NONE
    recipes: Path | None = None
    adapters: Path | str | None = None
    keep_seconds: float = 7 * 24 * 3600.0
    max_disk_bytes: int = 4 * GIB
    max_variants_bytes: int = 16 * GIB
    batch_rows: int = 1
    workers: tuple[int, int] = (1, 1)
    gpus: tuple[str, ...] = ()
    max_loaded_bytes: int | None = None
    cluster: str | None = None
    worker_gpus: int = 0
    database: str | None = field(default=None, repr=False)
    lease_seconds: float = 15.0
    results: str | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def recipes_folder(self) -> Path:
        """Where the recipes lie."""
        return self.recipes or self.state / "recipes"

    @property
    def adapters_folder(self) -> Path | str:
        """Where the adapters lie."""
        return self.adapters or self.state / "adapters"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    def address(self, port: int, host: str | None = None) -> str:
        """Where a browser finds the page.

        Args:
            port: that is listened on; `self.port` may leave it to the system.
            host: that a client connected to; None is `self.host`.
        """
        name = "localhost" if self.on_loopback else host or self.host
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a service keeps its state: `$SEGUE_STATE`, or where the platform has such things.

    Raises:
        RequestError: there is no home to put it into.
    """
    if chosen := environment.get("SEGUE_STATE"):
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 - Path's own may raise
    try:
        if sys.platform == "darwin":
            return Path("~/Library/Application Support/segue").expanduser()
        if root := environment.get("XDG_STATE_HOME"):
            return Path(root) / "segue"
        return Path("~/.local/state/segue").expanduser()
    except RuntimeError:
        raise RequestError("there is no home folder; say where to with --state-dir") from None
