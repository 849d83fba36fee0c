"""The workers of `segue serve --cluster`; imported with Ray, see `segue.cluster`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..cluster import cards
from .settings import Settings
from .workers.actor import WorkerActor
from .workers.actor_client import ActorWorker


def with_resources(settings: Settings) -> Settings:
    """The same settings for the cluster that was joined: each worker has a card, if there are."""
    if cards() >= 1 and settings.engine in ("auto", "mlx"):
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
