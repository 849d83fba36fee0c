"""How an actor of Ray ended: with its machine, which no task is to blame for, or alone.

Imported with Ray, see `segue.cluster`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError

from .actor import CONTROL

SECONDS_TO_BE_KNOWN = 3.0
"""How long a cluster may take to say why an actor does not answer; else it counts as vanished."""

SECONDS_OF_DOUBT = 2.0
"""How long a machine may outlive an actor that ends with it: a shutdown has them in any order."""

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_ANSWER = 1.0

_TOLD_TO_END = "receives a SIGTERM"
"""In what Ray says of a process that somebody ended in an orderly way; a crash never says so."""


async def vanished(handle: Any, node: str, error: RayError) -> bool:
    """Whether an actor's machine is gone, or about to go, and not the actor alone.

    Args:
        handle: Ray's, of the actor.
        node: the id of its machine.
        error: what one of its tasks failed with.
    """
    if not isinstance(error, ActorDiedError):
        # What a machine had is out of reach, or it does not answer; which of them shows soon.
        try:
            async with asyncio.timeout(SECONDS_TO_BE_KNOWN):
                await handle.node.options(concurrency_group=CONTROL).remote()
            return True  # it is there again, without what it was to send
        except TimeoutError:
            return True
        except RayActorError as later:
            if not isinstance(later, ActorDiedError):
                return True
            error = later
    if _TOLD_TO_END in str(error):
        return True
    try:
        async with asyncio.timeout(SECONDS_OF_DOUBT):
            while await asyncio.to_thread(_answers, node):
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return True
    except TimeoutError:
        return False


def _answers(node: str) -> bool:
    """Whether a machine is of the cluster, and takes connections.

    The cluster alone may find out only after fifteen seconds that a machine has lost its power.
    """
    for each in ray.nodes():
        if each["NodeID"] == node and each["Alive"]:
            address = (each["NodeManagerAddress"], each["NodeManagerPort"])
            try:
                socket.create_connection(address, _SECONDS_TO_ANSWER).close()
            except OSError:
                return False
            return True
    return False
