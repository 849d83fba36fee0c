"""Inspect packages, devices, folders, checkpoints and the port, and collect problems."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import soundfile

from ..caching import cache_folder
from ..checkpoints import hub
from ..engine.native.library import unavailable
from ..errors import SegueError
from ..lab.machine import machine
from ..service.settings import Settings, state_folder
from . import self_test

PACKAGES = (
    "segue",
    "mlx",
    "mlx-cuda-13",
    "openvino",
    "numpy",
    "safetensors",
    "tokenizers",
    "soundfile",
    "av",
    "soxr",
    "huggingface-hub",
    "fastapi",
    "uvicorn",
)
_COMPILED = ("cuda", "native", "openvino")
_GIB = 1 << 30


@dataclass
class Report:
    """The findings.

    Attributes:
        packages: versions by name; None for what is not installed.
        machine: see `segue.lab.machine.machine`.
        gpu: name and memory of the GPU that MLX uses; None if it uses the CPU.
        audio: versions of libsndfile and FFmpeg.
        folders: those that segue reads or writes: path, bytes in it, whether it is writable.
        models: the local checkpoints: name, bytes, complete, missing files.
        port: the process that listens on the service's port.
        self_tests: see `SelfTest`; empty if none was run.
        problems: one line each.
    """

    packages: dict[str, str | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] | None = None
    audio: dict[str, str] = field(default_factory=dict)
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    port: dict[str, Any] = field(default_factory=dict)
    self_tests: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def engines() -> list[str]:
    """List the installed engines."""
    found = [name for name in ("mlx", "openvino") if find_spec(name) is not None]
    return found + ["native"] * ("openvino" in found and unavailable() is None)


def examine(port: int = Settings.port) -> Report:
    """Inspect everything but the engines.

    Args:
        port: the service's port.
    """
    report = Report(machine=machine())
    report.packages = {name: _version(name) for name in PACKAGES}
    report.audio = _audio()
    _inspect_gpu(report)
    _inspect_folders(report)
    _inspect_models(report)
    _inspect_port(report, port)
    if not engines():
        report.problems.append("no engine is installed; install segue again")
    return report


def add_self_test(report: Report, engine: str) -> None:
    """Run the self-test of one engine, and add it to the report."""
    found = self_test.run(engine)
    report.self_tests.append(asdict(found) | {"passed": found.passed})
    if found.error is not None:
        report.problems.append(f"{engine} does not run: {found.error}")
    elif not found.passed:
        report.problems.append(
            f"{engine} computes other codes than it should ({found.prompt_codes:.0%} of the "
            f"prompt's, {found.likeliest_tokens:.0%} of the likeliest tokens); please report it"
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _audio() -> dict[str, str]:
    found = {"libsndfile": soundfile.__libsndfile_version__}
    if find_spec("av") is not None:
        import av

        found["ffmpeg"] = ", ".join(
            f"{name} {'.'.join(map(str, numbers))}"
            for name, numbers in sorted(av.library_versions.items())
        )
    return found


def _inspect_gpu(report: Report) -> None:
    if find_spec("mlx") is None:
        return
    try:
        from mlx import core as mx

        if mx.default_device().type == mx.DeviceType.gpu:
            report.gpu = dict(mx.device_info())
    except Exception as error:  # an old driver, a missing library, ...
        report.problems.append(f"MLX does not start: {error}")


def _folders() -> Iterator[tuple[str, Path | None, bool]]:
    """Name, path, and whether it must be writable."""
    yield "checkpoints", hub.cache_folder(), True
    try:
        yield "service state", state_folder(), True
    except SegueError:
        yield "service state", None, True
    for name in _COMPILED:
        yield f"compiled for {name}", cache_folder(name), True
    yield "temporary files", Path(tempfile.gettempdir()), True


def _inspect_folders(report: Report) -> None:
    for name, path, needed in _folders():
        if path is None:
            report.folders[name] = {"path": None, "bytes": 0, "writable": False}
            report.problems.append(f"{name}: there is no folder that can be written to")
            continue
        # Not Path's own, which raises for an unreadable folder.
        nearest = next(p for p in (path, *path.parents) if os.path.lexists(p))
        writable = os.access(nearest, os.W_OK | os.X_OK)
        free = shutil.disk_usage(nearest).free
        report.folders[name] = {
            "path": str(path),
            "bytes": 0 if name == "temporary files" else _bytes_in(path),
            "free_bytes": free,
            "writable": writable,
        }
        if needed and not writable:
            report.problems.append(f"{name}: {nearest} cannot be written to; mend its permissions")
        elif free < _GIB:
            report.problems.append(f"{name}: {nearest} has less than 1 GB free; make room")


def _bytes_in(folder: Path) -> int:
    """The size of all files below a folder, each counted once, however many hard links it has."""
    total, seen = 0, set()
    for root, _, files in os.walk(folder):
        for file in files:
            try:
                status = os.lstat(os.path.join(root, file))  # noqa: PTH118 - as os.walk gives them
            except OSError:
                continue
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_size
    return total


def _inspect_models(report: Report) -> None:
    if (trouble := hub.cache_trouble()) is not None:
        report.problems.append(trouble)
    models = hub.local_models()
    for model in models:
        report.models.append(
            {
                "name": model.name,
                "bytes": model.size_bytes,
                "complete": model.complete,
                "missing": list(model.missing),
            }
        )
    if not any(model.complete for model in models):
        report.problems.append("no checkpoint is here, not even the built-in one; install again")


def _inspect_port(report: Report, port: int) -> None:
    report.port = {"port": port, "taken": False, "by": None}
    with socket.socket() as client:
        client.settimeout(2)
        if client.connect_ex(("127.0.0.1", port)) != 0:
            return
    owner = _owner(port)
    report.port |= {"taken": True, "by": owner}
    if owner is None or "segue" not in owner:
        report.problems.append(
            f"port {port} is taken{f' by {owner}' if owner else ''}; stop that, or start "
            "segue serve with another --port"
        )


def _owner(port: int) -> str | None:
    """The listener on a port: a service by its answer, or a process by lsof."""
    import httpx2

    try:
        answer = httpx2.get(f"http://127.0.0.1:{port}/health", timeout=2).json()
        if isinstance(answer, dict) and answer.get("service"):
            return f"{answer['service']} {answer.get('version', '')}".strip()
    except (httpx2.HTTPError, ValueError):
        pass
    if (lsof := shutil.which("lsof")) is None:
        return None
    listed = subprocess.run(  # noqa: S603 - a fixed program, and a number
        [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    ).stdout.splitlines()
    by = {line[0]: line[1:] for line in listed if line}
    return f"{by['c']} (process {by['p']})" if {"c", "p"} <= by.keys() else None
