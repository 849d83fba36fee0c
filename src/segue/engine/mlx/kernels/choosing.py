"""Which kernels run."""

from __future__ import annotations

import os

from ....errors import RequestError
from ..device import on_cuda
from . import memory, runtime
from .attention import HEAD_DIMS
from .runtime import VARIABLE

NAMES = ("embed", "layer", "linear", "attend", "sample", "convolve", "lstm")
EMBED, LAYER, LINEAR, ATTEND, SAMPLE, CONVOLVE, LSTM = NAMES

CODEC: frozenset[str] = frozenset({CONVOLVE, LSTM})
"""The kernels of the codec; the others are those of a decode step."""

FASTER: frozenset[str] = frozenset(NAMES)
"""The kernels that run by default on CUDA: those that were measured to be faster."""


def wanted(names: str) -> frozenset[str]:
    """The kernels that a list such as `"linear,attend"` names; `"all"` and `"none"` are known.

    With `layer` comes `attend`, which has to do with the same cache what `layer` does not take.

    Raises:
        RequestError: there is no such kernel.
    """
    if names in ("all", "none"):
        return frozenset(NAMES) if names == "all" else frozenset()
    found = frozenset(name.strip() for name in names.split(","))
    if not found <= set(NAMES):
        raise RequestError(f"{VARIABLE}={names!r}; there are {', '.join(NAMES)}, all and none")
    return found | {ATTEND} if LAYER in found else found


def available() -> bool:
    """Whether kernels can run here: there is CUDA, and they can be compiled for it."""
    return on_cuda() and runtime.compile_error() is None


def chosen(head_dim: int) -> frozenset[str]:
    """The kernels that run here: those that `VARIABLE` names, or else `FASTER`.

    Without CUDA none does, whatever is named.

    Raises:
        RequestError: the variable names one that there is not, or there is CUDA, but kernels that
            it names cannot be compiled, or what `attend` writes to the cache does not persist.
    """
    names = os.environ.get(VARIABLE)
    on = FASTER if names is None else wanted(names)
    if not on or not on_cuda():
        return frozenset()
    compile_error = runtime.compile_error()
    if compile_error is not None and names is not None:
        raise RequestError(f"{VARIABLE}={names}: {compile_error}")
    if compile_error is not None:
        return frozenset()
    if head_dim not in HEAD_DIMS:
        on -= {ATTEND, LAYER}
    if ATTEND in on and not memory.cache_write_persists():
        if names is not None:
            raise RequestError(
                f"{VARIABLE}={names}: the cache forgets here; leave {ATTEND} and {LAYER} out"
            )
        on -= {ATTEND, LAYER}
    return on
