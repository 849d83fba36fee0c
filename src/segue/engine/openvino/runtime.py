"""OpenVINO itself: how it is imported, told about the machine, and where it keeps compiled models.

Every other module of this engine gets the library from here.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# `import openvino` imports its model converter, if it can, and that reports each start to a
# statistics server.  segue converts nothing, and only `segue.checkpoints.hub` goes to the network.
_CONVERTER = "openvino.tools.ovc"
_blocked = sys.modules.setdefault(_CONVERTER, None) is None  # type: ignore[arg-type]
import openvino as ov  # noqa: E402
from openvino import opset6 as states  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from ... import caching  # noqa: E402

if _blocked:
    del sys.modules[_CONVERTER]

__all__ = [
    "cache_folder",
    "compiled",
    "device_name",
    "give_back",
    "ops",
    "ov",
    "page_out",
    "run",
    "states",
    "sweep",
]

MADV_PAGEOUT = 21
"""Linux's number for it; before 5.4 it has none, and refuses."""

MAX_CACHE_BYTES = 4 << 30
"""What compiled models may take on disk; those that nobody used for longest go first."""

PROPERTIES: dict[str, Any] = {
    "PERFORMANCE_HINT": "LATENCY",
    # Exactly what the checkpoint says, also where the machine has narrower types that are faster.
    "INFERENCE_PRECISION_HINT": "f32",
    # A cache in float16 moves logits of MusicGen small by 0.002, in 8 bits by 0.06: see `KV_TYPES`.
    "KV_CACHE_PRECISION": "f32",
    # By default OpenVINO rounds activations to 8 bits before it multiplies compressed weights.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


KV_TYPES = {16: "f16", 8: "u8"}
"""What keys and values may be stored in, by its bits, beside float32.  What is read of the cache is
rounded, not what a run of many columns attends to among themselves."""

_compiling = threading.Lock()
"""OpenVINO sets the process's locale to "C" while it compiles or reads a compiled model, and then
back to what it was; two threads at once leave it at "C", and whatever reads text after them fails
at its first character beyond ASCII."""


@cache
def _core() -> Any:
    return ov.Core()


def device_name() -> str:
    """The processor's name."""
    return str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def compiled(
    model: ov.Model, threads: int | None = None, kv_bits: int | None = None, keep: bool = True
) -> Any:
    """Compile `model` for the CPU, or read it from the cache of compiled models.

    Threads take turns, since OpenVINO changes the locale of the process meanwhile.

    OpenVINO finds a model there by a hash of its graph, its weights, the properties, the library's
    version and the machine.

    Args:
        model: the graph; it may be released afterwards.
        threads: how many to use; None for as many as there are cores.
        kv_bits: one of `KV_TYPES`; None stores keys and values in float32.
        keep: whether it will be compiled again, and is worth its place on the disk.
    """
    properties = dict(PROPERTIES)
    if kv_bits is not None:
        properties["KV_CACHE_PRECISION"] = KV_TYPES[kv_bits]
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    size = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
    folder = cache_folder() if keep else None
    if folder is None or 2 * size > MAX_CACHE_BYTES:
        with _compiling:
            return _core().compile_model(model, "CPU", properties)
    with _compiling:
        found = _core().compile_model(model, "CPU", properties | {"CACHE_DIR": str(folder)})
    sweep(folder)
    return found


def run(model: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a compiled model, by a request of its own: others may run it meanwhile."""
    request = model.create_infer_request()
    request.infer([np.ascontiguousarray(values) for values in inputs])
    return [np.array(request.get_output_tensor(n).data) for n in range(len(model.outputs))]


def give_back() -> None:
    """Give the system what building graphs and running them once left free in the C heap.

    It is a sixth of all that a small model takes, and glibc would keep it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def page_out() -> None:
    """Put the files of compiled models, which stay mapped, out of memory.

    OpenVINO reads a weight there until it has packed it; both together are half of what a small
    model takes.  Paging out loses nothing, whatever it meets: another thread may unmap a file after
    it was listed here, and have other memory at its place.
    """
    folder = cache_folder()
    if sys.platform != "linux" or folder is None:
        return
    advise = ctypes.CDLL(None).madvise
    for start, stop in _mapped(str(folder.resolve())):
        advise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), MADV_PAGEOUT)


def _mapped(folder: str) -> Iterator[tuple[int, int]]:
    """First and last address of every compiled model that is mapped."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # a sandbox that hides it; then they stay in memory
        return
    for line in maps.splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        if path.startswith(folder) and path.endswith(".blob"):
            start, _, stop = addresses.partition("-")
            yield int(start, 16), int(stop, 16)


def cache_folder() -> Path | None:
    """Where compiled models lie (`$XDG_CACHE_HOME/segue/openvino`), or None if none can."""
    return caching.cache_folder("openvino")


def sweep(folder: Path, limit: int = MAX_CACHE_BYTES) -> None:
    """Remove the compiled models that were read longest ago until the rest fit into `limit`."""
    total = 0
    for path, size, _ in sorted(_models(folder), key=lambda model: -model[2]):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)


def _models(folder: Path) -> list[tuple[Path, int, float]]:
    """Path, bytes and last use of every compiled model; another process may remove one."""
    found = []
    for path in folder.glob("*.blob"):
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((path, state.st_size, max(state.st_atime, state.st_mtime)))
    return found
