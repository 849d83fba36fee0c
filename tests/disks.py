"""Disks that are really full or read-only, and a user whom permissions bind.

Tests run as root in many places, and nothing refuses root; so what asks for permissions gives the
process up to what may ignore them first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

NOBODY = 65534

_PR_CAPBSET_DROP = 24
_IGNORES_MODES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
_DROP = (
    "import ctypes, os, sys\n"
    f"for capability in {_IGNORES_MODES}:\n"
    f"    ctypes.CDLL(None).prctl({_PR_CAPBSET_DROP}, capability, 0, 0, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)


@contextmanager
def small_disk(at: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of its own at the new folder `at`; skips the test where none can be mounted."""
    at.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("a file system can be mounted by root on Linux alone")
    command = [mount, "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(at)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()})")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk with one file but for `leave` bytes."""
    path = disk / "filler"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(path, path.stat().st_size - leave)
    return path


def bound() -> list[str]:
    """What to put before a command line so that permissions bind it; skips where it cannot be."""
    if os.geteuid() != 0:
        return []
    if sys.platform != "linux":
        pytest.skip("nothing binds root here")
    return [sys.executable, "-S", "-E", "-c", _DROP]


@contextmanager
def closed(folder: Path) -> Iterator[Path]:
    """A folder that nobody may look into, as far as modes bind."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        yield folder
    finally:
        folder.chmod(mode)


@contextmanager
def as_user(number: int) -> Iterator[None]:
    """This process as another user, for as long as nothing is imported; skips where it may not."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
