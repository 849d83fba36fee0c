"""What a machine has for workers to run on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The NVIDIA cards that this process may use, each as `CUDA_VISIBLE_DEVICES` names it.

    Args:
        environment: whose `CUDA_VISIBLE_DEVICES` holds, where it is set.
    """
    if (visible := environment.get(VISIBLE)) is not None:
        named = [each.strip() for each in visible.split(",")]
        end = next((n for n, each in enumerate(named) if each in ("", "-1")), len(named))
        return tuple(named[:end])  # CUDA, too, reads no further than the first that is none
    if sys.platform != "linux":
        return ()
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def half_of_memory() -> int:
    """Bytes of memory that models may take unless told otherwise."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
