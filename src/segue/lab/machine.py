"""Where something was measured, and how much memory it took."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("segue", "mlx", "openvino", "numpy", "soxr")


def machine() -> dict[str, Any]:
    """Return what this computer is: system, processor, cores and bytes of memory."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _processor() -> str:
    for line in _lines_of("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _lines_of(path: str) -> list[str]:
    """A file of Linux's; nothing on other systems, and in a sandbox that hides it."""
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def is_busy() -> bool:
    """Return whether more ran in the last minute than what is measured can account for."""
    cores: int = machine()["cores"]
    try:
        return os.getloadavg()[0] > cores + 1
    except OSError:  # not known on this system
        return False


def versions() -> dict[str, str]:
    """Return versions of Python and of the installed packages that timings and codes depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident."""
    # Linux's getrusage starts from the peak of the process that started this one.
    for line in _lines_of("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
