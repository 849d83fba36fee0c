"""From CUDA source to code for one GPU: compiled in threads, kept on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from ....caching import cache_folder

MAX_CACHE_BYTES = 64 << 20
"""What compiled kernels may take on disk, some 5 to 80 kB each; those that nobody used for longest
go first."""

MAX_THREADS = 8
"""That compile at a time; a step needs half a dozen kernels."""

INCLUDES = {"__half": "cuda_fp16.h", "__nv_bfloat16": "cuda_bf16.h"}
"""Where CUDA defines types that are not the compiler's own."""

Source = TypeVar("Source", bound=Hashable)
Code = TypeVar("Code")


class Compiler(Generic[Source, Code]):
    """Compiles each source once, several at a time: NVRTC does without the interpreter's lock.

    Args:
        compile_one: compiles one.
    """

    def __init__(self, compile_one: Callable[[Source], Code]) -> None:
        self._compile_one = compile_one
        self._lock = threading.Lock()
        self._tasks: dict[Source, Future[Code]] = {}
        self._threads = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), "segue-compile")

    def start(self, source: Source) -> Future[Code]:
        """Have a source compiled in a thread, if it is not yet; who needs the code waits for it."""
        with self._lock:
            task = self._tasks.get(source)
            if task is None or (task.done() and task.exception() is not None):
                task = self._tasks[source] = self._threads.submit(self._compile_one, source)
            return task


def compiled(text: str, arch: str) -> bytes:
    """Compile `text`, or read what it was compiled to from disk.

    On disk it has a hash of itself before it: a damaged file is compiled anew.

    Args:
        text: from `Kernel.written`.
        arch: the GPU's, from `architecture`.
    """
    # Some 50 MB and half a second, which only a machine with CUDA has to have.
    from cuda.core import Program, ProgramOptions
    from cuda.core.utils import make_program_cache_key

    folder, digest = cuda_headers()
    options = ProgramOptions(arch=arch, include_path=folder)
    key = make_program_cache_key(
        code=text, code_type="c++", options=options, target_type="cubin", extra_digest=digest
    )
    store = _store()
    with suppress(OSError):
        cached = store.get(key, b"")
        if cached and sha256(cached[32:]).digest() == cached[:32]:
            return cached[32:]
    try:
        code = bytes(Program(text, "c++", options).compile("cubin").code)
    # Of some thousand compilations, up to eight at a time, NVRTC refused one for its architecture,
    # which was right; why is not known.  Alone none was refused.
    except Exception:
        with _ALONE:
            code = bytes(Program(text, "c++", options).compile("cubin").code)
    with suppress(OSError):
        store[key] = sha256(code).digest() + code
    return code


_ALONE = threading.Lock()


@cache
def load_compiler() -> None:
    """Import what compiles, in one thread: cuda.core fails where several import it at once."""
    with suppress(Exception):  # whoever compiles reports it
        import cuda.core
        import cuda.core.utils
        import cuda.pathfinder  # noqa: F401


def _store() -> Any:
    """Bytes by their keys: on disk, or nowhere if there is no place for them."""
    from cuda.core.utils import FileStreamProgramCache

    folder = cache_folder("cuda")
    with suppress(OSError):
        if folder is not None:
            return FileStreamProgramCache(folder, max_size_bytes=MAX_CACHE_BYTES)
    return {}


@cache
def cuda_headers() -> tuple[str, bytes]:
    """The folder that CUDA's headers are in, and a hash of those that kernels include."""
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    if folder is None:
        raise FileNotFoundError("CUDA's headers are not found")
    digest = sha256()
    for file in INCLUDES.values():
        for path in sorted(Path(folder).glob(f"{file}*")):  # with cuda_fp16.hpp and such
            digest.update(path.read_bytes())
    return folder, digest.digest()
