"""A Ray cluster whose machines generate: `segue serve --cluster`.

Imported where a cluster is asked for, and only then: Ray is the extra `cluster`.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import replace
from typing import Any

from ..errors import RequestError
from .settings import Settings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
try:
    import ray
except ImportError:
    raise RequestError(
        'a cluster needs Ray; pip install "segue[cluster]", here and on its machines'
    ) from None

from .workers.actor import WorkerActor
from .workers.actor_client import ActorWorker

NAMESPACE = "segue"

_SECONDS_TO_CONNECT = 10.0


def connect(address: str) -> None:
    """Join a cluster, until the process ends.

    Args:
        address: `HOST:PORT` of its head, or `auto` for the cluster that this machine is part of;
            either way this machine is one of its nodes.

    Raises:
        RequestError: there is none, or it runs another version of Ray.
    """
    if address != "auto":
        _demand_reachable(address)
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(
            f"--cluster {address}: there is no cluster, or this machine is not of it ({reason}); "
            f"ray start --address {address} makes it one"
        ) from None


def _demand_reachable(address: str) -> None:
    """Find out at once what Ray would take minutes to.

    Raises:
        RequestError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, ValueError, OverflowError):
        raise RequestError(
            f"--cluster {address}: no cluster can be reached there; give HOST:PORT of its head, "
            "such as 10.0.0.1:6379, which 'ray start --head' says, or auto"
        ) from None


def with_resources(settings: Settings) -> Settings:
    """The same settings for the cluster that was joined: each worker has a card, if there are."""
    cards = ray.cluster_resources().get("GPU", 0)
    if cards >= 1 and settings.engine in ("auto", "mlx"):
        return replace(settings, worker_gpus=1)
    return replace(settings, threads=settings.threads or 1)


def workers(settings: Settings, actor: type[WorkerActor] = WorkerActor) -> list[ActorWorker]:
    """The workers that there may be, none of them started.

    Args:
        settings: of the service, see `with_resources`.
        actor: what they are.
    """
    resources: dict[str, Any] = {"num_cpus": settings.threads or 1}
    if settings.worker_gpus:
        resources |= {"num_cpus": 1, "num_gpus": settings.worker_gpus}
    options = {
        "role": "player",
        "engine": settings.engine,
        "threads": settings.threads,
        "max_quantized_bytes": settings.max_variants_bytes,
        "max_loaded_bytes": settings.max_loaded_bytes,
        "batch_rows": settings.batch_rows,
        "resources": {"CPU": resources["num_cpus"], "GPU": resources.get("num_gpus", 0)},
    }
    return [
        ActorWorker(n, options, settings.batch_rows, resources, actor)
        for n in range(settings.workers[1])
    ]
