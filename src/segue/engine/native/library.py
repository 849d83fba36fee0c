"""Find the native library, or compile it.

A wheel for a platform brings it, beside this module.  From source it is compiled when it is first
used, in a few seconds, into segue's cache, by the system's C compiler or, where there is none, by
`ziglang`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from ...caching import cache_folder
from ...errors import RequestError
from . import building, structures
from .building import CompileError, compile_into, compilers, source_hash, this_target

PATH_VARIABLE = "SEGUE_NATIVE_PATH"
"""Names one of the paths to run, in place of the best one."""

PACKAGED = Path(__file__).parent / this_target().library_name
"""Where a wheel has the library."""


class UnavailableError(RequestError):
    """There is no library and none can be compiled; the message says why, on one line."""


@cache
def load() -> ctypes.CDLL:
    """The library, loaded once: the packaged one, unless it is not of these sources.

    Raises:
        UnavailableError: see there.
    """
    reasons = []
    if PACKAGED.exists():
        try:
            return opened(PACKAGED)
        except UnavailableError as error:
            reasons.append(str(error))
    try:
        return opened(compiled())
    except UnavailableError as error:
        raise UnavailableError("; ".join([*reasons, str(error)])) from None


def opened(path: Path) -> ctypes.CDLL:
    """A library of a file.

    Raises:
        UnavailableError: it does not run here, or was compiled of other sources.
    """
    try:
        library = ctypes.CDLL(str(path))
        structures.declare(library)
        version, sources = library.segue_version(), library.segue_sources().decode()
    except (OSError, AttributeError) as error:
        said = str(error).splitlines()[0]
        raise UnavailableError(f"{path} is no library that runs here: {said}") from None
    if version != structures.VERSION or sources != source_hash():
        raise UnavailableError(f"{path} was compiled of other sources than are here; delete it")
    return library


@cache
def unavailable() -> str | None:
    """None if the library can be loaded; else why not, on one line."""
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


def compiled() -> Path:
    """The library in segue's cache, compiled if it is not there yet.

    Raises:
        UnavailableError: no compiler compiles it.
    """
    folder = cache_folder("native")
    if folder is None:
        raise UnavailableError("there is no folder for caches, where it could be compiled into")
    path = folder / _fingerprint() / PACKAGED.name
    if path.exists():
        return path
    reasons = []
    path.parent.mkdir(exist_ok=True)
    for command in compilers():
        try:
            compile_into(path, command)
        except (CompileError, OSError) as error:
            reasons.append(str(error))
        else:
            return path
    raise UnavailableError(
        "; ".join(reasons) or "there is no C compiler; install one, or `pip install ziglang`"
    )


def _fingerprint() -> str:
    """A name for what the sources, the flags and the kind of processor make."""
    target = this_target()
    hashed = hashlib.sha256(repr((source_hash(), building.FLAGS, target.sources)).encode())
    return f"{target.system}-{target.machine}-{hashed.hexdigest()[:16]}"
