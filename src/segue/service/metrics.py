"""Counters of the service, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .workers.pool import Pool

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
        self._crashes = Counter(
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
        self._rows_limit = Gauge(
            "segue_batch_rows_limit", "Rows of a worker that may run together", registry=registry
        )
        self._worker_jobs = Counter(
            "segue_pool_jobs", "Jobs that ended", ["worker", "state"], registry=registry
        )
        self._worker_music = Counter(
            "segue_pool_music_seconds",
            "Seconds of music that were generated",
            ["worker"],
            registry=registry,
        )
        self._worker_crashes = Counter(
            "segue_pool_deaths", "Ends while it worked", ["worker"], registry=registry
        )
        self._workers = {
            name: Gauge(f"segue_pool_{name}", said, ["worker"], registry=registry)
            for name, said in (
                ("up", "Whether the worker runs"),
                ("jobs_playing", "Jobs that run on it now"),
                ("rows_used", "Rows of jobs that run on it now"),
                ("models", "Models that it holds"),
                ("loaded_bytes", "Bytes of these models, about"),
                ("memory_bytes", "Bytes that MLX has allocated, on a GPU in its memory"),
            )
        }
        self._client_jobs = Counter(
            "segue_client_jobs",
            "Jobs, by what became of them",
            ["client", "state"],
            registry=registry,
        )
        self._client_music = Counter(
            "segue_client_music_seconds",
            "Seconds of music that were generated",
            ["client"],
            registry=registry,
        )
        self._client_waiting = Gauge(
            "segue_client_jobs_waiting", "Jobs in the queue", ["client"], registry=registry
        )
        self._client_refusals = Counter(
            "segue_client_refusals",
            "Requests beyond a limit of their client",
            ["client", "limit"],
            registry=registry,
        )
        self.disk = Gauge("segue_kept_bytes", "Bytes of inputs and results", registry=registry)

    def submitted(self, kind: str, client: str = "") -> None:
        """Count a job that was queued, of a client where they are told apart."""
        self._submitted.labels(kind).inc()
        if client:
            self._client_jobs.labels(client, "queued").inc()

    def refused(self, client: str, limit: str) -> None:
        """Count a request that was more than its client may have."""
        self._client_refusals.labels(client, limit).inc()

    def ended(self, state: str, seconds: float, worker: int, client: str = "") -> None:
        """Count a job that had begun and ended, on the worker of that number."""
        if client:
            self._client_jobs.labels(client, state).inc()
        self._finished.labels(state).inc()
        self._worker_jobs.labels(str(worker), state).inc()
        self._seconds.observe(seconds)

    def crashed(self, worker: int, first: bool) -> None:
        """Count a worker that ended while it worked, once for all of its jobs."""
        self._crashes.inc(first)
        self._worker_crashes.labels(str(worker)).inc(first)

    def waits(self, jobs: Mapping[str, int]) -> None:
        """Take down how many jobs of each client wait, where clients are told apart."""
        self._client_waiting.clear()
        for client, count in jobs.items():
            if client:
                self._client_waiting.labels(client).set(count)

    def look_at(self, pool: Pool) -> None:
        """Take down what the workers do and hold now."""
        self._rows_limit.set(pool.batch_rows)
        for place in pool.places:
            seen = {
                "up": place.worker.alive,
                "jobs_playing": len(place.jobs),
                "rows_used": place.rows,
                "models": len(place.models),
                "loaded_bytes": place.bytes,
                "memory_bytes": place.memory if place.worker.alive else 0,
            }
            for name, value in seen.items():
                self._workers[name].labels(str(place.number)).set(value)

    def generated(
        self,
        music_seconds: float,
        work_seconds: float,
        rows: float,
        worker: int,
        client: str = "",
    ) -> None:
        """Count the music that a job generated, and the seconds that it took.

        Args:
            music_seconds: of all takes.
            work_seconds: from when its model was loaded; jobs that run together count alike.
            rows: of the steps that ran meanwhile, on average, those of other jobs included.
            worker: its number.
            client: whose it is; empty where clients are not told apart.
        """
        if client:
            self._client_music.labels(client).inc(music_seconds)
        self._worker_music.labels(str(worker)).inc(music_seconds)
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
