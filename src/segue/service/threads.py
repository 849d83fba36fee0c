"""Work in threads, of which a task that is cancelled loses no end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_end(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread; a task that is cancelled meanwhile waits until it has returned.

    A thread cannot be stopped.  One that is left alone may write when everything after it has
    been written, or when what it writes to is closed.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
