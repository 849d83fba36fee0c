"""A job as clients see it."""

from __future__ import annotations

import math
from typing import Any

from ...errors import SegueError
from ..jobs.progress import DownloadProgress
from ..jobs.rows import CANCELLED, COMPLETED, FAILED, QUEUED, Input, Job
from ..jobs.waiting import View

SOURCE = "localhost"


def plugin_status(view: View) -> str:
    """The contract's word for a job's state."""
    if view.job.state == CANCELLED:
        return FAILED
    if view.job.state in (COMPLETED, FAILED):
        return view.job.state
    warming = view.progress is not None and view.progress.phase in ("download", "load")
    return "warming" if warming else "processing"


def progress_of(view: View) -> int:
    """0 to 100; 100 when it is done, and not before."""
    if view.job.state == COMPLETED:
        return 100
    return 0 if view.progress is None else min(99, math.floor(100 * view.progress.fraction))


def quantization_of(view: View) -> str:
    """The quantization that ran, or that is to run."""
    ran = view.job.result or (view.progress.ran if view.progress is not None else {})
    return str(ran.get("quantization", view.job.spec.quantization.mode))


def join_seconds(job: Job, input_: Input | None) -> float | None:
    """Where in the result the continuation starts: one number before and after it is generated.

    Args:
        job: waiting, running or over.
        input_: its audio, as far as it is kept.

    Returns:
        Seconds from the start of the result; None where that is not known.
    """
    if job.result is not None:
        return float(job.result["join"] / job.result["sample_rate"])
    if input_ is None:
        return None
    try:
        laid_out = job.spec.plan(input_.frames, input_.sample_rate)
    except SegueError:  # accepted by an earlier version, to fail
        return None
    return (laid_out.join - laid_out.first) / input_.sample_rate


def queue_status(view: View) -> dict[str, Any]:
    """The plugin's `queue_status`: what it shows while it waits."""
    progress, seconds = view.progress, math.ceil(view.seconds)
    status: dict[str, Any] = {
        "status": view.job.state,
        "message": view.job.error or "",
        "position": view.position,
        "total_queued": view.total,
        "estimated_time": f"{seconds}s",
        "estimated_seconds": seconds,
        "source": SOURCE,
    }
    if progress is None:
        notes = (view.job.result or {}).get("notes", [])
        return status | {"message": view.job.error or "; ".join(["done", *notes])}
    if progress.phase == "download" and progress.download is not None:
        return status | downloading(progress.download)
    if progress.phase == "load":
        return status | {"status": "warming", "message": progress.message, "phase": "load"}
    if progress.phase == "queued":
        message = f"number {view.position} in the queue, about {seconds} s to wait"
        return status | {"status": "queued", "message": message, "phase": "queued"}
    return status | {"status": "processing", "message": progress.message, "phase": "process"}


def downloading(progress: DownloadProgress) -> dict[str, Any]:
    """The fields of `queue_status` while a model is downloaded."""
    left = progress.seconds_left
    seconds = None if left is None else math.ceil(left)
    return {
        "status": "warming",
        "message": progress.message,
        "estimated_time": None if seconds is None else f"{seconds}s",
        "estimated_seconds": seconds,
        **progress.fields(),
    }


def status_of(view: View) -> str:
    """The word for a job's state, of this API."""
    if view.job.state == QUEUED and (view.progress is None or view.progress.phase == "queued"):
        return QUEUED
    if view.job.finished is not None:
        return view.job.state
    warming = view.progress is not None and view.progress.phase in ("download", "load")
    return "warming" if warming else "processing"
