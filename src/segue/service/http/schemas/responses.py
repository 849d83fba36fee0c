"""The responses, as OpenAPI documents them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Response(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), extra="allow")


class Refused(_Response):
    """Why a request cannot be done: one line that a musician understands."""

    success: bool = False
    error: str


class Started(_Response):
    """A session has begun."""

    success: bool = True
    session_id: str
    message: str


class SessionStarted(Started):
    """A session has begun that generates.

    `seed` is the one that is used, whether it was sent, reduced or drawn.
    """

    seed: int


class JobStarted(SessionStarted):
    """A job has begun; it is a session of the plugin's, too."""

    job_id: str


class QueueStatus(_Response):
    """What the plugin shows while it waits.

    While a model is downloaded there are `phase`, `repo_id`, `download_percent`,
    `downloaded_bytes`, `total_bytes`, `speed_bps`, `stage_name`, `stage_index` and `stage_total`.
    """

    status: str | None = None
    message: str | None = None
    position: int | None = None
    total_queued: int | None = None
    estimated_time: str | None = None
    estimated_seconds: int | None = None
    source: str | None = None


class Poll(_Response):
    """How far a session is."""

    success: bool
    status: str
    progress: int
    generation_in_progress: bool
    transform_in_progress: bool = False
    generation_seed: str | None = None
    queue_status: QueueStatus
    audio_data: str | None = None
    error: str | None = None


class ModelList(_Response):
    """The models, by size."""

    success: bool = True
    models: dict[str, list[dict[str, Any]]]
    updated_at: str


class DownloadState(_Response):
    """Whether a model is on this machine."""

    downloaded: bool
    missing: list[str]


class DownloadStates(_Response):
    """Which models are on this machine."""

    success: bool = True
    models: dict[str, DownloadState]
    updated_at: str


class PredownloadStarted(Started):
    """A download has begun."""

    model_name: str


class Predownload(_Response):
    """How far a download is."""

    success: bool
    session_id: str
    model_name: str
    status: str
    progress: int
    queue_status: QueueStatus
    error: str | None = None


class RepositorySize(_Response):
    """How large a repository of the hub is."""

    name: str
    bytes: int
    missing_bytes: int


class DownloadSize(_Response):
    """How large the download of a model will be, and what the disk has for it."""

    success: bool = True
    model_name: str
    bytes: int
    missing_bytes: int
    repositories: list[RepositorySize]
    free_bytes: int


class DownloadList(_Response):
    """Downloads."""

    success: bool = True
    downloads: list[Predownload]


class InputState(_Response):
    """Audio that the service has."""

    input_id: str
    seconds: float
    sample_rate: int
    channels: int
    name: str = ""
    url: str


class InputSaid(InputState):
    """The same, as an answer."""

    success: bool = True
    notes: list[str] = []


class ParentState(_Response):
    """The take that a job plays on from: where in it, and whether it is kept still."""

    job: str
    take: int
    until_seconds: float
    known: bool


class BarsState(_Response):
    """Where the bars of a result lie."""

    bpm: float
    beats_per_bar: float
    downbeat_seconds: float
    snap: str
    prompt_bars: float
    new_bars: float


class PartState(_Response):
    """A stretch of every take that has a text of its own; the first is the continuation."""

    description: str | None = None
    start_seconds: float
    stop_seconds: float
    seeds: list[int]
    bars: float | None = None


class Beats(_Response):
    """Tempo, metre, downbeat and beats that were found, in seconds of the input."""

    success: bool = True
    bpm: float
    beats_per_bar: float
    downbeat_seconds: float
    beats: list[float]
    counts: list[int]


class BeatOffsets(_Response):
    """How far the beats of what is new lie from the grid, in milliseconds."""

    beats: int
    median_ms: float
    worst_ms: float
    mean_ms: float
    bpm: float


class Take(_Response):
    """A continuation that is done."""

    number: int
    seed: int
    seconds: float
    url: str
    description: str = ""
    name: str = ""
    note: str = ""
    starred: bool = False
    file_names: dict[str, str]
    beat_offsets: BeatOffsets | None = None


class TakeBeats(_Response):
    """What is known of a take's beats; None where none were found."""

    success: bool = True
    beat_offsets: BeatOffsets | None = None


class JobState(_Response):
    """A job.  `deleted` and `undo_until` are there where it was removed."""

    success: bool
    job_id: str
    kind: str
    created: float
    finished: float | None = None
    expires: float | None = None
    name: str = ""
    note: str = ""
    starred: bool = False
    status: str
    progress: int
    queue_status: QueueStatus
    seed: int
    model_name: str
    quantization: str
    engine: str | None = None
    adapters: list[str] = []
    melody: bool = False
    input: InputState | None = None
    parent: ParentState | None = None
    root: str
    parameters: dict[str, Any]
    join_seconds: float | None = None
    loop_seconds: float | None = None
    bars: BarsState | None = None
    parts: list[PartState] = []
    takes: list[Take]
    error: str | None = None
    notes: list[str] = []
    timings_s: dict[str, float] | None = None


class Said(_Response):
    """It is done."""

    success: bool = True
    message: str


class Removed(Said):
    """It is cancelled, or removed: until then it can be restored."""

    undo_until: float | None = None


class JobPage(_Response):
    """Jobs, newest first; `next` is what the next page comes `before`."""

    success: bool = True
    jobs: list[JobState]
    next: int | None = None
    total: int


class Health(_Response):
    """Whether the service can generate."""

    status: str
    service: str
    version: str
    message: str
    worker: str
    waiting: int
    playing: bool


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the 4xx it may answer, all of one shape."""
    always = (400, 401, 403)  # the middleware's
    return {code: {"model": Refused} for code in sorted({*always, *codes})}


def leads_to(name: str, *operations: tuple[str, str]) -> dict[str, Any]:
    """OpenAPI's links: where the id that an answer holds can be used.

    Args:
        name: of the field that holds the id.
        operations: the ids of operations, each with the parameter that takes it.
    """
    links = {
        f"{operation}-{parameter}": {
            "operationId": operation,
            "parameters": {parameter: f"$response.body#/{name}"},
        }
        for operation, parameter in operations
    }
    return {"links": links}


JOB_LINKS = leads_to(
    "job_id",
    *((name, "job_id") for name in ("job_state", "stream", "cancel_job", "retry_job", "take")),
    *((name, "job_id") for name in ("take_file", "mark_job", "mark_take", "remove_take")),
)
SESSION_LINKS = leads_to(
    "session_id",
    ("poll_status", "session_id"),
    *((name, "job_id") for name in ("job_state", "stream", "cancel_job")),
)
INPUT_LINKS = leads_to("input_id", *((name, "input_id") for name in ("input_state", "input_audio")))
DOWNLOAD_LINKS = leads_to(
    "session_id",
    *((name, "session_id") for name in ("predownload_status", "cancel_predownload")),
    *((name, "session_id") for name in ("pause_predownload", "resume_predownload")),
)
