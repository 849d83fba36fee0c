"""What a process takes in memory, in megabytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

MB = 1e6


def resident(pid: int) -> float:
    """Now."""
    said = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(said.stdout) * 1024 / MB


def forget_peak(pid: int) -> None:
    """Let `peak` begin anew; where the system has no such thing, `peak` is what is there now."""
    path = Path(f"/proc/{pid}/clear_refs")
    if path.exists():
        path.write_text("5")


def peak(pid: int) -> float:
    """The most since `forget_peak`."""
    path = Path(f"/proc/{pid}/status")
    if not path.exists():
        return resident(pid)
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB
