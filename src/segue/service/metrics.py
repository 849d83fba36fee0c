"""Counters of the service, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._submitted = Counter(
            "segue_jobs_submitted", "Jobs that were queued", ["kind"], registry=registry
        )
        self._finished = Counter(
            "segue_jobs_finished", "Jobs that ended", ["state"], registry=registry
        )
        self._seconds = Histogram(
            "segue_job_seconds",
            "Seconds from a job's beginning to its end, loading included",
            buckets=_SECONDS,
            registry=registry,
        )
        self._music = Counter(
            "segue_music_seconds", "Seconds of music that were generated", registry=registry
        )
        self._work = Counter(
            "segue_playing_seconds", "Seconds that it took, loading excluded", registry=registry
        )
        self.worker_crashes = Counter(
            "segue_worker_deaths", "Workers that ended while they worked", registry=registry
        )
        self._rows = Histogram(
            "segue_batch_rows",
            "Rows of a step, the mean of those that ran while a job did",
            buckets=_ROWS,
            registry=registry,
        )
        self._requests = Counter(
            "segue_http_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "segue_http_request_seconds",
            "Seconds until an answer was sent, streams excluded",
            ["route"],
            registry=registry,
        )
        self.waiting = Gauge("segue_jobs_waiting", "Jobs in the queue", registry=registry)
        self.running = Gauge("segue_jobs_playing", "Jobs that run now", registry=registry)
        self.rows = Gauge("segue_batch_rows_used", "Rows of jobs that run now", registry=registry)
        self.disk = Gauge("segue_kept_bytes", "Bytes of inputs and results", registry=registry)

    def submitted(self, kind: str) -> None:
        """Count a job that was queued."""
        self._submitted.labels(kind).inc()

    def ended(self, state: str, seconds: float) -> None:
        """Count a job that had begun and ended."""
        self._finished.labels(state).inc()
        self._seconds.observe(seconds)

    def generated(self, music_seconds: float, work_seconds: float, rows: float) -> None:
        """Count the music that a job generated, and the seconds that it took.

        Args:
            music_seconds: of all takes.
            work_seconds: from when its model was loaded; jobs that run together count alike.
            rows: of the steps that ran meanwhile, on average, those of other jobs included.
        """
        self._music.inc(music_seconds)
        self._work.inc(work_seconds)
        self._rows.observe(rows)

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request that was answered; `seconds` is None for a stream."""
        self._requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._latency.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The counters in Prometheus' text format."""
        return generate_latest(self._registry)
