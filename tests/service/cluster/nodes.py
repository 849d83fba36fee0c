"""A real Ray cluster on this machine: a head without processors, and nodes that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"

from ray.cluster_utils import Cluster

_MEMORY = 100 << 20
"""Of a node's object store: the smallest that Ray takes is 75 MB."""

_QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A node that does not answer counts as gone after two seconds, and not after fifteen."""


class Nodes:
    """A cluster.

    Args:
        count: nodes besides the head.
        cpus: that each of them claims to have.

    Attributes:
        address: `HOST:PORT` of the head.
    """

    def __init__(self, count: int, cpus: int) -> None:
        head = {"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False}
        self._cpus = cpus
        self._cluster = Cluster(
            initialize_head=True, head_node_args={**head, "_system_config": _QUICK}
        )
        self.address: str = self._cluster.address
        self._nodes: list[Any] = []
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Start another node."""
        node = self._cluster.add_node(num_cpus=self._cpus, object_store_memory=_MEMORY)
        self._nodes.append(node)

    def ids(self) -> list[str]:
        """The ids of the nodes that run."""
        return [node.node_id for node in self._nodes]

    def kill(self, node_id: str) -> None:
        """Kill all processes of a node, with SIGKILL."""
        self._remove(node_id, graceful=False)

    def stop(self, node_id: str, workers_first: float | None = None) -> None:
        """End a node in an orderly way, with SIGTERM.

        Args:
            node_id: of the node.
            workers_first: so many seconds before the node its workers end, as with a machine that
                shuts down; None for `ray stop`, which ends the node first.
        """
        if workers_first is not None:
            for pid in self.workers(node_id):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(workers_first)
        self._remove(node_id, graceful=True)

    def workers(self, node_id: str) -> list[int]:
        """The processes of a node that have a task or an actor."""
        (raylet,) = self._node(node_id).all_processes["raylet"]
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
        return [
            int(pid)
            for pid, parent, command in lines
            if int(parent) == raylet.process.pid
            and command.startswith("ray::")
            and not command.startswith("ray::IDLE")
        ]

    def _node(self, node_id: str) -> Any:
        return next(node for node in self._nodes if node.node_id == node_id)

    def _remove(self, node_id: str, graceful: bool) -> None:
        node = self._node(node_id)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=graceful)

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


@contextmanager
def nodes(count: int = 2, cpus: int = 2) -> Iterator[Nodes]:
    """Start a cluster, and end it."""
    cluster = Nodes(count, cpus)
    try:
        yield cluster
    finally:
        cluster.close()
