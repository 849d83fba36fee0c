"""Schemathesis on the service's OpenAPI document: whatever is sent, no answer is a 5xx."""

from __future__ import annotations

import collections
import time
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

from ..server import Server, encoded, song
from .figures import Figures

SEED = 1
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
TINY = {"audio_data": encoded(song(0.3, 8_000, 1), 8_000), "prompt_seconds": 0.2}


def fuzz(server: Server, examples: int, most_seconds: float) -> Figures:
    """Every operation of the document, at most so many requests each and so long in all.

    Half of the requests that name a job name one that is done, so that takes and streams, too, have
    something to give.
    """
    figures = Figures("schemathesis")
    # Hypothesis would make a folder in the one that this runs in.
    set_hypothesis_home_dir(server.state.parent / "hypothesis")
    job = server.post("/api/jobs", **TINY, output_seconds=1, seed=1).json()["job_id"]
    assert server.finished(job)["status"] == "completed"
    known = {"job_id": job, "session_id": job, "number": 1}
    known["input_id"] = server.get(f"/api/jobs/{job}").json()["input"]["input_id"]
    before = len(server.lines())
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations: list[Any] = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    statuses: collections.Counter[int] = collections.Counter()
    finished: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + most_seconds
    for number, operation in enumerate(operations):
        # What is left, shared by what is left to be tried.
        until = time.monotonic() + (end - time.monotonic()) / (len(operations) - number)
        _try(operation, known, examples, until, statuses, finished)
        for path in (f"/api/jobs/{job}", f"/api/jobs/{job}/takes/1"):  # if it was removed
            server.post(f"{path}/undelete")
    _empty_queue(server, before)
    figures.add("operations", len(operations))
    figures.add("requests", sum(statuses.values()))
    figures.add("answers", ", ".join(f"{n} × {status}" for status, n in sorted(statuses.items())))
    streams = sum(n for label, n in finished.items() if label.endswith("/stream"))
    figures.add("of them about a job that is done", f"{sum(finished.values())} ({streams} streams)")
    assert streams
    assert not [line for line in server.lines() if line["message"] in ("fault", "disk")]
    assert server.get("/health").json()["status"] == "live"
    return figures


def _try(
    operation: Any,
    known: dict[str, Any],
    examples: int,
    until: float,
    statuses: collections.Counter[int],
    finished: collections.Counter[str],
) -> None:
    count = 0
    schemathesis.checks.load_all_checks()
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKS)

    @hypothesis.seed(SEED)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def test(case: Any) -> None:
        nonlocal count
        if time.monotonic() > until and count:
            return
        count += 1
        parameters = case.path_parameters or {}
        if count % 2:
            parameters |= {name: known[name] for name in known if name in parameters}
            finished[operation.label] += bool({"job_id", "session_id"} & set(parameters))
        _shorten(case.body)
        answer = case.call()
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=checks)
        assert answer.status_code < 500, answer.text

    test()


def _shorten(body: Any) -> None:
    """It is the service that is tried, and not the model: nothing long is played."""
    if isinstance(body, dict) and isinstance(body.get("output_seconds"), int | float):
        body["output_seconds"] = min(body["output_seconds"], 2)


def _empty_queue(server: Server, before: int) -> None:
    """Cancel what it began."""
    for line in server.lines()[before:]:
        if line["message"] == "job queued":
            server.delete(f"/api/jobs/{line['job']}")
