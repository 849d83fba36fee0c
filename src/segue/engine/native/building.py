"""Compile the native library, for this machine or another.

The build hook of the wheel runs this file by itself, so it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).parent / "c"

FLAGS = (
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-fvisibility=hidden", "-g0"),
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = tuple(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni"))
PATHS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "path_avx2.c": _AVX2,
        "path_avxvnni.c": (*_AVX2, "-mavxvnni"),
        "path_avx512.c": (*_AVX2, *_AVX512, "-mprefer-vector-width=512"),
    },
    "aarch64": {"path_neon.c": ()},
}
EVERYWHERE = ("portable.c", "threads.c", "step.c", "processor.c", "dispatch.c", "path_plain.c")
COMPILE_SECONDS = 300

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SUFFIXES = {"darwin": "dylib", "windows": "dll"}


class CompileError(Exception):
    """A compiler did not compile the library; the message says why, on one line."""


@dataclass(frozen=True)
class Target:
    """What a library is compiled for.

    Attributes:
        system: `linux`, `darwin`, `windows`, or another that has POSIX threads.
        machine: `x86_64`, `aarch64`, or another, which has the plain path alone.
    """

    system: str
    machine: str

    @property
    def library_name(self) -> str:
        """The name of the library's file."""
        return f"_segue_native.{_SUFFIXES.get(self.system, 'so')}"

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The files to compile, and the flags of each beside `FLAGS`."""
        everywhere: dict[str, tuple[str, ...]] = dict.fromkeys(EVERYWHERE, ())
        return everywhere | PATHS.get(self.machine, {})


def this_target() -> Target:
    """Where this process runs."""
    machine = platform.machine().lower()
    return Target(platform.system().lower(), _MACHINES.get(machine, machine))


def source_hash() -> str:
    """16 hexadecimal digits that change with the C sources."""
    hashed = hashlib.sha256()
    for file in sorted(SOURCES.glob("*.[ch]")):
        # Not with the line ends, which a checkout may change.
        content = file.read_bytes().replace(b"\r\n", b"\n")
        hashed.update(f"{file.name} {len(content)}\n".encode() + content)
    return hashed.hexdigest()[:16]


def compilers() -> list[tuple[str, ...]]:
    """The command lines of C compilers to try: `$CC`, the system's, `ziglang`'s."""
    found = [tuple(shlex.split(os.environ["CC"]))] if os.environ.get("CC") else []
    found += [(path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if find_spec("ziglang") is not None:
        found.append((sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"))
    return found


def compile_into(
    path: Path,
    command: tuple[str, ...],
    target: Target | None = None,
    flags: tuple[str, ...] = (),
    linker: tuple[str, ...] | None = None,
) -> None:
    """Compile the library, or nothing.

    Args:
        path: of the library.
        command: of the compiler.
        target: what `command` compiles for; None for this machine.
        flags: beside `FLAGS`.
        linker: the command of the compiler that links; None for `command`.

    Raises:
        CompileError: the compiler does not.
    """
    target = target or this_target()
    windows = target.system == "windows"
    common = (*FLAGS, *(() if windows else ("-fPIC",)), f"-DSEGUE_SOURCES={source_hash()}", *flags)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = Path(temporary)

        def compile_one(name: str, own: tuple[str, ...]) -> str:
            made = str(folder / f"{name}.o")
            _run((*command, *common, *own, "-c", str(SOURCES / name), "-o", made))
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda item: compile_one(*item), target.sources.items()))
        whole = folder / target.library_name
        libraries = () if windows else ("-lpthread", "-lm")
        _run((*(linker or command), *flags, "-shared", *objects, "-o", str(whole), *libraries))
        whole.replace(path)


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - a compiler, on our own files
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} did not compile it: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[0]
        raise CompileError(f"{command[0]} did not compile it: {said}")
