"""A Ray cluster: how it is joined, and what its machines have.

Imported where a cluster is asked for, and only then: Ray is the extra `cluster`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, TypeVar, cast

from .errors import RequestError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
try:
    import ray
    from ray.exceptions import RayError
except ImportError:
    raise RequestError(
        'a cluster needs Ray; pip install "segue[cluster]", here and on its machines'
    ) from None

Item = TypeVar("Item")

log = logging.getLogger("segue.service.ray")

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
    if not isinstance(sys.stdout, WithoutRay):
        sys.stdout = cast(TextIO, WithoutRay(sys.stdout))
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


class WithoutRay:
    """A text stream that takes nothing from Ray's own threads, and is another in all else.

    Ray prints what it has to say of machines on the standard output, whatever its settings: into a
    report in JSON, and into a pipe that nobody reads, where it would stand still for ever.

    Args:
        stream: the other one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the stream, or, from a thread of Ray's, to the log where it is verbose."""
        if not threading.current_thread().name.startswith("ray_"):
            return self._stream.write(text)
        if line := text.strip():
            log.debug("ray: %s", line)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless it is Ray that wants it."""
        if not threading.current_thread().name.startswith("ray_"):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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


def cards() -> float:
    """How many GPUs the cluster that was joined has."""
    return float(ray.cluster_resources().get("GPU", 0))


def whole_machine() -> dict[str, float]:
    """What a task asks for that is to have a machine to itself, as options of Ray.

    That is what the smallest machine has: on a larger one there may be two.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if cards() >= 1:
        return {"num_gpus": min(node["GPU"] for node in nodes if node.get("GPU", 0) >= 1)}
    return {"num_cpus": min((node["CPU"] for node in nodes if node.get("CPU", 0) >= 1), default=1)}


def outcomes(
    items: Iterable[Item], submit: Callable[[Item], Any]
) -> Iterator[tuple[Item, Any, str | None]]:
    """Submit a task for each item, and yield what comes of them, as it comes.

    Tasks that are left when the caller stops are cancelled.

    Args:
        items: of any kind.
        submit: has the task of an item begin, and returns Ray's reference to it.

    Yields:
        The item; what its task returned; and one line where it failed with its machine, else None.
    """
    left = {submit(item): item for item in items}
    try:
        while left:
            (done,), _ = ray.wait(list(left), num_returns=1)
            item = left.pop(done)
            try:
                outcome, line = ray.get(done), None
            except RayError as error:
                reason = str(error).partition("\n")[0]
                outcome, line = None, f"its machine vanished, or failed: {reason}"
            yield item, outcome, line
    finally:
        for reference in left:
            ray.cancel(reference, force=True)
