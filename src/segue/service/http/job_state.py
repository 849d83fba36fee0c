"""The state of a job, as the service's own routes answer it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import Request

from ..exceptions import RefusalError
from ..exports import file_names
from ..jobs.kept import NO_MARK, WHOLE_JOB, Mark
from ..jobs.play_on import grid_of
from ..jobs.rows import CANCELLED, COMPLETED, FAILED, Input, Job
from ..jobs.spec import JobSpec
from ..jobs.waiting import View
from ..service import Service, client_of, service_of
from .views import join_seconds, progress_of, quantization_of, queue_status, status_of


def state_of(service: Service, view: View) -> dict[str, Any]:
    """A job and its result.

    Args:
        service: that has it.
        view: of the job, as it is now.
    """
    job, result = view.job, view.job.result or {}
    ran = result or (view.progress.ran if view.progress is not None else {})
    input_, marks = service.store.input(job.input), service.store.kept.marks(job.id)
    own = marks.get(WHOLE_JOB, NO_MARK)
    state: dict[str, Any] = {
        "success": job.state not in (FAILED, CANCELLED),
        "job_id": job.id,
        "kind": "native" if job.spec.kind == "native" else "plugin",
        "created": job.created,
        "finished": job.finished,
        "expires": _expires(service, job, marks),
        "name": own.name,
        "note": own.note,
        "starred": own.starred,
        "status": status_of(view),
        "progress": progress_of(view),
        "queue_status": queue_status(view),
        "seed": job.spec.seed,
        "model_name": job.spec.model,
        "quantization": quantization_of(view),
        "engine": ran.get("engine"),
        "adapters": [f"{each.name}:{each.scale:g}" for each in job.spec.adapters],
        "melody": job.spec.melody is not None,
        "input": None if input_ is None or not job.spec.prompted else described_input(input_),
        "parent": _parent(service, job),
        "root": job.root,
        "parameters": _parameters(job.spec),
        "join_seconds": join_seconds(job, input_),
        "loop_seconds": result["loop"] / result["sample_rate"] if "loop" in result else None,
        "bars": _bars(job, result),
        "parts": _parts(result),
        "takes": _takes(service, job, result, marks),
        "notes": result.get("notes", []),
    }
    if result:
        state["timings_s"] = result["timings_s"]
    if job.error is not None:
        state["error"] = job.error
    if own.deleted is not None:
        state["deleted"] = own.deleted
        state["undo_until"] = own.deleted + service.settings.limits.undo_seconds
    return state


def _expires(service: Service, job: Job, marks: dict[int, Mark]) -> float | None:
    """When a job goes; None where it has a star, or is not over."""
    starred = any(mark.starred and mark.deleted is None for mark in marks.values())
    if starred or job.finished is None:
        return None
    return job.finished + service.settings.keep_seconds


def _parameters(spec: JobSpec) -> dict[str, Any]:
    """What a client would send to get the same again, of the same input.

    `prompt_seconds` and `output_seconds` are known in any case; where `prompt_bars`, and `seconds`
    or `bars`, are there, those are what is sent.
    """
    texts = {"descriptions": [*spec.texts]} if spec.texts else {"description": spec.text}
    lengths = {name: getattr(spec, name) for name in ("seconds", "bars", "prompt_bars")}
    quantization = spec.quantization.mode if spec.quantization.explicit else None
    return {
        "model_name": spec.model,
        **texts,
        "prompt_start": spec.start,
        "prompt_from": "end" if spec.start is None else "start",
        "prompt_seconds": spec.prompt_seconds,
        "output_seconds": spec.output_seconds,
        **lengths,
        **{name: getattr(spec, name) for name in _SAME_NAMES},
        "cfg_coef": spec.guidance_coef,
        "parts": [
            {
                "description": part.text,
                "seconds": part.seconds,
                "bars": part.bars,
                "seed": part.seed,
            }
            for part in spec.parts
        ],
        "quantization_mode": quantization,
        "adapters": [f"{each.name}:{each.scale:g}" for each in spec.adapters],
    }


_SAME_NAMES = (
    *("bpm", "beats_per_bar", "downbeat", "snap", "loop_crossfade"),
    *("top_k", "top_p", "temperature", "variations", "extend_stride", "seed"),
)


def _bars(job: Job, result: dict[str, Any]) -> dict[str, Any] | None:
    """Where the bars of a result lie, if it has a tempo."""
    if (grid := grid_of(result)) is None:
        return None
    rate, join = result["sample_rate"], result["join"]
    new = result["takes"][0]["frames"] - join
    return {
        "bpm": grid.bpm,
        "beats_per_bar": grid.beats_per_bar,
        "downbeat_seconds": round(grid.downbeat % grid.bar_seconds, 6),
        "snap": job.spec.snap,
        "prompt_bars": round((join - result["loop"]) / rate / grid.bar_seconds, 4),
        "new_bars": round(new / rate / grid.bar_seconds, 4),
    }


def _parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The continuation and the parts behind it, in seconds of a take."""
    grid, rate = grid_of(result), result.get("sample_rate", 1)
    return [
        {
            "description": part["text"],
            "start_seconds": part["start"] / rate,
            "stop_seconds": part["stop"] / rate,
            "seeds": part["seeds"],
            "bars": None
            if grid is None
            else round((part["stop"] - part["start"]) / rate / grid.bar_seconds, 4),
        }
        for part in result.get("parts", ())
    ]


def _takes(
    service: Service, job: Job, result: dict[str, Any], marks: dict[int, Mark]
) -> list[dict[str, Any]]:
    rate, found = result.get("sample_rate", 1), []
    for n, (take, description) in enumerate(
        zip(result.get("takes", ()), job.spec.text_of_takes, strict=False), 1
    ):
        mark = marks.get(n, NO_MARK)
        if mark.deleted is None:
            found.append(
                {
                    "number": n,
                    "seed": take["seed"],
                    "seconds": take["frames"] / rate,
                    "url": f"/api/jobs/{job.id}/takes/{n}.wav",
                    "description": description,
                    "name": mark.name,
                    "note": mark.note,
                    "starred": mark.starred,
                    "file_names": file_names(service.store, job, n),
                    "beat_offsets": mark.beats,
                }
            )
    return found


def _parent(service: Service, job: Job) -> dict[str, Any] | None:
    if (parent := job.parent) is None:
        return None
    above = service.store.job(parent.job)
    return {
        "job": parent.job,
        "take": parent.take,
        "until_seconds": parent.seconds,
        "known": above is not None and not service.store.kept.removed(above.id, parent.take),
    }


def described_input(input_: Input) -> dict[str, Any]:
    """An input, and where its audio is."""
    return {
        "input_id": input_.id,
        "seconds": input_.seconds,
        "sample_rate": input_.sample_rate,
        "channels": input_.channels,
        "name": input_.name,
        "url": f"/api/inputs/{input_.id}/audio",
    }


# --- Looking up -----------------------------------------------------------------------------------


def not_known() -> RefusalError:
    """The answer about a job that is not there."""
    return RefusalError(404, "this music is not known any more; send the audio again")


def any_job_of(request: Request, name: str) -> Job:
    """The job of an id, removed or not.

    Raises:
        RefusalError: who sends the request has none.
    """
    job = service_of(request).store.job(name)
    if job is None or not client_of(request).sees(job.client):
        raise not_known()
    return job


def job_of(request: Request, name: str) -> Job:
    """The job of an id, which was not removed.

    Raises:
        RefusalError: who sends the request has none.
    """
    job = any_job_of(request, name)
    if service_of(request).store.kept.removed(job.id):
        raise not_known()
    return job


def done_job(request: Request, name: str, number: int) -> Job:
    """The job of an id, which is done and has a take of that number.

    Raises:
        RefusalError: who sends the request has none, or it is not done.
    """
    service, job = service_of(request), job_of(request, name)
    if job.state != COMPLETED:
        raise RefusalError(409, "this music is not done")
    path = service.store.take_path(job, number)
    there = path is not None and (path.is_file() or service.store.results is not None)
    if not there or service.store.kept.removed(job.id, number):
        raise RefusalError(404, f"there is no take {number}")
    return job


async def present(request: Request, path: Path) -> Path:
    """The file of an input or a take, once it is on this machine.

    Raises:
        RefusalError: it has been swept.
        ResultsGoneError: it is in a store of results that does not answer.
    """
    await asyncio.to_thread(service_of(request).store.present, path)
    if not path.is_file():
        raise not_known()
    return path


def view_of(request: Request, name: str) -> View:
    """The job of an id as it is now, which was not removed.

    Raises:
        RefusalError: who sends the request has none.
    """
    service = service_of(request)
    view = service.jobs.view(name)
    if view is None or not client_of(request).sees(view.job.client):
        raise not_known()
    if service.store.kept.removed(view.job.id):
        raise not_known()
    return view


def input_of(request: Request, name: str) -> Input:
    """The input of an id, which has a file.

    Raises:
        RefusalError: who sends the request has none.
    """
    input_ = service_of(request).store.input(name)
    if input_ is None or input_.frames == 0 or not client_of(request).sees(input_.client):
        raise RefusalError(404, "this audio is not known any more; send it again")
    return input_
