"""Memory of large models that macOS must not page out while they generate.

Metal's buffers are ordinary memory: of a model that nearly fills it, macOS compresses or swaps what
it takes for idle, and each step then waits for its weights.  MLX keeps buffers resident up to its
wired limit, 0 by default (see `mlx.core.set_wired_limit`).  mlx-lm raises it while a model
generates (`wired_limit` in https://github.com/ml-explore/mlx-lm, `generate.py`); so does this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from . import turns

LARGE = 0.5
"""Of the recommended working set: models that take less are not worth taking memory from others."""

NEAR = 0.9
"""Of the recommended working set: beyond it a model leaves too little for all that it computes."""


class WiredLimit:
    """MLX's wired limit, which holds for the whole process.

    Args:
        library: has `metal`, `default_device`, `device_info` and `set_wired_limit` as `mlx.core`.
        synchronize: waits for all that was submitted to the GPU.
    """

    def __init__(
        self, library: Any = mx, synchronize: Callable[[], None] = turns.synchronize
    ) -> None:
        self._library, self._synchronize = library, synchronize
        self._lock = threading.RLock()
        self._holders, self._before = 0, 0

    def recommended_bytes(self) -> int | None:
        """The largest working set that Metal recommends; None where MLX does not run on Metal."""
        library = self._library
        if not library.metal.is_available() or library.default_device().type != mx.DeviceType.gpu:
            return None
        size = library.device_info().get("max_recommended_working_set_size")
        return None if size is None else int(size)

    def note(self, model_bytes: int) -> str | None:
        """A line for the user of a model of `model_bytes` that is near the limit, else None."""
        most = self.recommended_bytes()
        if most is None or model_bytes <= NEAR * most:
            return None
        return (
            f"the model takes {model_bytes / 1e9:.1f} GB of the {most / 1e9:.1f} GB that the GPU "
            "works well with, so it may be slow; choose a smaller model or a quantization"
        )

    @contextmanager
    def raised(self, model_bytes: int) -> Iterator[None]:
        """Keep a large model's memory resident within; elsewhere than on Metal, do nothing.

        Before the limit goes back to what it was, all submitted work is waited for: MLX must not
        release memory that a step still reads.  Overlapping uses raise the limit once.
        """
        most = self.recommended_bytes()
        if most is None or model_bytes < LARGE * most:
            yield
            return
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._before = self._library.set_wired_limit(most)
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._synchronize()
                    self._library.set_wired_limit(self._before)


WIRED_LIMIT = WiredLimit()
"""That of this process."""
