"""Measure the limits of the machine, of which every figure of the table is a share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

INSTRUCTIONS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Those that kernels for matrices choose by, as Linux names them."""


def processor() -> str:
    """Return the processor's name and its instruction sets for matrices."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    there = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name", "processor of an unknown name")
    return f"{name} ({', '.join(i for i in INSTRUCTIONS if i in there) or 'flags unknown'})"


def bytes_per_second(threads: int) -> float:
    """Measure how fast `threads` threads read memory together."""
    parts = [np.ones(1 << 26, np.float32) for _ in range(threads)]
    best = 0.0
    for _ in range(7):
        # A maximum is the least work per value, and reads each once.
        readers = [threading.Thread(target=part.max) for part in parts]
        start = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, sum(p.nbytes for p in parts) / (time.perf_counter() - start))
    return best


def flops_per_second(threads: int) -> float:
    """Measure float32 operations a second of a large matrix product, OpenVINO's or torch's."""
    n = 2048
    a = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    return 2 * n**3 / min(product(a, threads) for product in (_by_openvino, _by_torch))


def _by_openvino(a: np.ndarray, threads: int) -> float:
    from segue.engine.openvino import graph, runtime

    x = graph.parameter("x", (-1, len(a)))
    product = graph.model([runtime.ops.matmul(x, graph.constant(a), False, True)], [x])
    properties = {**runtime.PROPERTIES, "INFERENCE_NUM_THREADS": threads}
    request = runtime.ov.Core().compile_model(product, "CPU", properties).create_infer_request()
    return _best(lambda: request.infer([a]))


def _by_torch(a: np.ndarray, threads: int) -> float:
    if not find_spec("torch"):
        return float("inf")
    import torch

    torch.set_num_threads(threads)
    x = torch.tensor(a)
    return _best(lambda: x @ x)


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    found = []
    for _ in range(8):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)
