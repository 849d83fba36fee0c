"""Find the native library, or compile it.

A wheel brings it, beside this module.  From source it is compiled when it is first used, in a few
seconds, into segue's cache, by the system's C compiler or, where there is none, by `ziglang`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ...errors import RequestError
from ..caching import cache_folder
from . import structures

SOURCES = Path(__file__).parent / "c"
NAME = "libsegue_native.so"
PATH_VARIABLE = "SEGUE_NATIVE_PATH"
"""Names one of the paths to run, in place of the best one."""

FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-trapping-math", "-fvisibility=default"),
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = tuple(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni"))
X86_PATHS = {
    "path_avx2.c": _AVX2,
    "path_avxvnni.c": (*_AVX2, "-mavxvnni"),
    "path_avx512.c": (*_AVX2, *_AVX512, "-mprefer-vector-width=512"),
}
EVERYWHERE = ("threads.c", "step.c", "dispatch.c", "path_plain.c")
COMPILE_SECONDS = 300


class UnavailableError(RequestError):
    """There is no library and none can be compiled; the message says why, on one line."""


@cache
def load() -> ctypes.CDLL:
    """The library, loaded once.

    Raises:
        UnavailableError: see there.
    """
    prebuilt = Path(__file__).parent / NAME
    path = prebuilt if prebuilt.exists() else compiled()
    try:
        library = ctypes.CDLL(str(path))
        structures.declare(library)
        version = library.segue_version()
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"{path} is no library that runs here: {error}") from None
    if version != structures.VERSION:
        raise UnavailableError(f"{path} is of another version of segue; delete it")
    return library


@cache
def unavailable() -> str | None:
    """None if the library can be loaded; else why not, on one line."""
    if sys.platform == "win32":
        return "it is not written for Windows"
    try:
        library = load()
    except UnavailableError as error:
        return str(error)
    if library.segue_paths() == b"plain":
        return f"it has no code for the processor, {platform.machine()}, that is faster"
    return None


def processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sources(machine: str) -> dict[str, tuple[str, ...]]:
    """The files to compile for a kind of processor, and the flags of each."""
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys(EVERYWHERE, ())
    if machine.lower() in ("x86_64", "amd64"):
        chosen |= X86_PATHS
    return chosen


def compilers() -> list[tuple[str, ...]]:
    """The command lines of C compilers to try: `$CC`, the system's, `ziglang`'s."""
    found = [tuple(shlex.split(os.environ["CC"]))] if os.environ.get("CC") else []
    found += [(path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if find_spec("ziglang") is not None:
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


def compile_into(path: Path, command: tuple[str, ...], flags: tuple[str, ...] = ()) -> None:
    """Compile the library, or nothing.

    Args:
        path: of the library.
        command: of the compiler.
        flags: beside `FLAGS`.

    Raises:
        UnavailableError: the compiler cannot.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = Path(temporary)

        def compile_one(name: str, own: tuple[str, ...]) -> str:
            made = str(folder / f"{name}.o")
            _run((*command, *FLAGS, *flags, *own, "-c", str(SOURCES / name), "-o", made))
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = sources(platform.machine()).items()
            objects = list(pool.map(lambda item: compile_one(*item), files))
        whole = folder / NAME
        _run((*command, *flags, "-shared", *objects, "-o", str(whole), "-lpthread", "-lm"))
        whole.replace(path)


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - a compiler, on our own files
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]} did not compile it: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[0]
        raise UnavailableError(f"{command[0]} did not compile it: {said}")


def compiled() -> Path:
    """The library in segue's cache, compiled if it is not there yet."""
    folder = cache_folder("native")
    if folder is None:
        raise UnavailableError("there is no folder for caches, where it could be compiled into")
    path = folder / _fingerprint() / NAME
    if path.exists():
        return path
    reasons = []
    path.parent.mkdir(exist_ok=True)
    for command in compilers():
        try:
            compile_into(path, command)
        except UnavailableError as error:
            reasons.append(str(error))
        else:
            return path
    raise UnavailableError(
        "; ".join(reasons) or "there is no C compiler; install one, or `pip install ziglang`"
    )


def _fingerprint() -> str:
    """A name for what the sources, the flags and the kind of processor make."""
    hashed = hashlib.sha256(repr((FLAGS, sources(platform.machine()))).encode())
    for file in sorted(SOURCES.iterdir()):
        hashed.update(file.read_bytes())
    return f"{platform.system()}-{platform.machine()}-{hashed.hexdigest()[:16]}".lower()
