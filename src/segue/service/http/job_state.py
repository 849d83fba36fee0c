"""The state of a job, as the service's own routes answer it."""

from __future__ import annotations

from typing import Any

from ..exceptions import RefusalError
from ..jobs.rows import CANCELLED, COMPLETED, FAILED, Input, Job
from ..jobs.waiting import View
from ..service import Service
from .views import join_seconds, progress_of, quantization_of, queue_status, status_of


def state_of(service: Service, view: View) -> dict[str, Any]:
    """A job and its result.

    Args:
        service: that has it.
        view: of the job, as it is now.
    """
    job, result = view.job, view.job.result or {}
    ran = result or (view.progress.ran if view.progress is not None else {})
    input_ = service.store.input(job.input)
    state: dict[str, Any] = {
        "success": job.state not in (FAILED, CANCELLED),
        "job_id": job.id,
        "kind": "native" if job.spec.kind == "native" else "plugin",
        "created": job.created,
        "finished": job.finished,
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
        "join_seconds": join_seconds(job, input_),
        "takes": _takes(job, result),
        "notes": result.get("notes", []),
    }
    if result:
        state["timings_s"] = result["timings_s"]
    if job.error is not None:
        state["error"] = job.error
    return state


def _takes(job: Job, result: dict[str, Any]) -> list[dict[str, Any]]:
    rate = result.get("sample_rate", 1)
    return [
        {
            "number": n,
            "seed": take["seed"],
            "seconds": take["frames"] / rate,
            "url": f"/api/jobs/{job.id}/takes/{n}.wav",
            "description": description,
        }
        for n, (take, description) in enumerate(
            zip(result.get("takes", ()), job.spec.text_of_takes, strict=False), 1
        )
    ]


def _parent(service: Service, job: Job) -> dict[str, Any] | None:
    if (parent := job.parent) is None:
        return None
    above = service.store.job(parent.job)
    return {
        "job": parent.job,
        "take": parent.take,
        "until_seconds": parent.seconds,
        "known": above is not None and above.state == COMPLETED,
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


def job_of(service: Service, name: str) -> Job:
    """The job of an id.

    Raises:
        RefusalError: there is none.
    """
    job = service.store.job(name)
    if job is None:
        raise not_known()
    return job


def view_of(service: Service, name: str) -> View:
    """The job of an id as it is now.

    Raises:
        RefusalError: there is none.
    """
    view = service.jobs.view(name)
    if view is None:
        raise not_known()
    return view


def input_of(service: Service, name: str) -> Input:
    """The input of an id, which has a file.

    Raises:
        RefusalError: there is none.
    """
    input_ = service.store.input(name)
    if input_ is None or input_.frames == 0:
        raise RefusalError(404, "this audio is not known any more; send it again")
    return input_
