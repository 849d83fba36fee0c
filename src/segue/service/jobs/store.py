"""Jobs, inputs and results on disk, so that nothing is lost, however the service ends.

    segue.db                     jobs, inputs, downloads, speeds     (SQLite; or in PostgreSQL)
    inputs/ID.wav                decoded audio of a job, or its melody; a retry has the same;
                                 music from a description alone has a row without a file
    jobs/ID/ATTEMPT/take-N.wav   results in 16 bits; every attempt has a folder of its own
    jobs/ID/ATTEMPT/new-N.wav    the continuation alone, in floats; see `take_files`
    uploads/                     audio files as they were sent; emptied at the start
    (inputs and jobs are in shared storage, too, where `results` says so)
    fronts/ID/                   uploads and exports of a front, where several share the folder

A file is on the disk before the row that names it, and a job is completed by one transaction: an
attempt that was cut short leaves files that no row names, which the next start removes.

Several fronts may share a database on a server, and a folder or an address for results.  Each write
says what it expects: a job that is queued, or an attempt that is still the latest; so each job is
run by one front at a time, and what comes late changes nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from ...checkpoints.abilities import Abilities
from ...errors import SegueError
from ..clients import ANYONE, Client
from . import leftovers
from .database import Database, DatabaseError
from .download_rows import DownloadRows
from .fronts import LEASE_SECONDS, Fronts
from .holds import Holds
from .kept import Kept
from .results import Results
from .room import Room
from .rows import COMPLETED, QUEUED, RUNNING, WAITING, Input, Job, Parent, QueueEntry
from .spec import JobSpec
from .speeds import Speeds
from .sqlite_database import SqliteDatabase
from .usage import Usage

log = logging.getLogger("segue.service")

_TIDY_SECONDS = 3600.0

_INSERT_INPUT = (
    "INSERT INTO inputs (id, sample_rate, channels, frames, bytes, name, added, client) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)


class QueueFullError(Exception):
    """As many jobs wait as may.

    Attributes:
        waiting: how many.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} jobs wait")
        self.waiting = waiting


class Store:
    """The folder of a service, which no other service uses, unless they share a database, too.

    Reads are for the thread of the event loop and take microseconds; from a server, a millisecond
    or so.  Writes reach the disk before they return; they may come from any thread.

    Args:
        folder: which is made if it does not exist.
        clock: seconds since 1970, by which the age of jobs counts.
        database: that several fronts share, as they share the folder; it is closed with the store.
            None is one in the folder, for this front alone.
        lease_seconds: see `Fronts`.
        results: an address of shared storage for inputs and results, so that fronts which share the
            database need no folder in common.

    Attributes:
        fronts: those that share the database; None where there is but one.
        front: the id of this one; empty where there is but one.
        kept, usage, downloads, speeds: see their modules.
        results: inputs and results in shared storage; None where they are in the folder alone.

    Raises:
        SegueError: the folder cannot be used, or another service uses it.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.time,
        database: Database | None = None,
        lease_seconds: float = LEASE_SECONDS,
        results: str | None = None,
    ) -> None:
        self.folder, self.clock = folder, clock
        self.inputs, self.jobs = folder / "inputs", folder / "jobs"
        self.variants = folder / "variants"
        self.fronts: Fronts | None = None
        self.results: Results | None = None
        self._tidied = 0.0
        try:
            if results is not None:
                self.results = Results(results, folder)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # the music is nobody else's business
            self._lock = leftovers.lock(folder / "lock", shared=database is not None)
            self.database = database or SqliteDatabase(folder / "segue.db")
            if self.results is not None:
                self.results.check(str(uuid.uuid4()))
            if database is not None:
                place = None if self.results is None else self.results.address
                self.fronts = Fronts(database, folder, lease_seconds, place)
            self.front = "" if self.fronts is None else self.fronts.id
            own = folder if self.fronts is None else self.fronts.folder_of(self.front)
            self.uploads, self.exports = own / "uploads", own / "exports"
            shutil.rmtree(self.uploads, ignore_errors=True)
            for part in (self.inputs, self.jobs, self.uploads):
                part.mkdir(parents=True, exist_ok=True)
            self.kept, self.usage = Kept(self.database, clock), Usage(self.database)
            self.downloads = DownloadRows(self.database, clock, self.front)
            self.speeds = Speeds(self.database)
            self._holds = Holds(self.database, self.front)
            self._room = Room(
                *(self.database, self.kept, self.inputs, self.jobs, self._holds, self.results)
            )
        except SegueError:
            self._close_given(database)
            raise
        except OSError as error:
            self._close_given(database)
            raise SegueError(
                f"{folder}: cannot be used ({error.strerror}); name another with --state-dir"
            ) from None
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            raise SegueError(
                f"{folder / 'segue.db'}: cannot be used ({error}); "
                f"{'make room' if full else 'move it away'}, or name another folder with "
                "--state-dir"
            ) from None
        except DatabaseError as error:
            self._close_given(database)
            raise SegueError(f"{error}; look at --database") from None

    @staticmethod
    def _close_given(database: Database | None) -> None:
        if database is not None:
            database.close()

    def close(self) -> None:
        """End this front's lease, close the database and release the folder."""
        try:
            if self.fronts is not None:
                self.fronts.leave()
        except DatabaseError:  # it is gone, and the lease runs out
            log.exception("the lease of this front cannot be ended")
        self.database.close()
        self._lock.close()

    def writable(self) -> bool:
        """Whether the folder can be written to."""
        try:
            probe = self.folder / "probe"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink(missing_ok=True)  # others ask, too
        except OSError:
            return False
        return True

    # --- Jobs -----------------------------------------------------------------------------------

    def recover(self) -> list[Job]:
        """Queue interrupted jobs again and remove files that no row names, after a start.

        Where fronts share the database, what was interrupted may run on another: see `Fronts`.
        """
        if self.fronts is None:
            with self.database.transaction() as db:
                db.execute(
                    "UPDATE jobs SET state = ?, deaths = deaths + 1 WHERE state = ?",
                    (QUEUED, RUNNING),
                )
        known = {row["id"] for row in self.database.rows("SELECT id FROM inputs")}
        attempts = {
            row["id"]: (row["attempts"] if row["state"] == COMPLETED else None)
            for row in self.database.rows("SELECT id, attempts, state FROM jobs")
        }
        age = None if self.fronts is None else leftovers.SHARED_SECONDS
        leftovers.remove(self.inputs, self.jobs, known, attempts, age)
        return self.waiting()

    def _tidy(self) -> None:
        """Remove what another front has removed, or what could not be removed, now and then."""
        assert self.results is not None  # noqa: S101 - only then is there anything to do
        if self.results.gone:
            with suppress(SegueError):
                self.results.check(str(uuid.uuid4()))
        if self.clock() - self._tidied < _TIDY_SECONDS:
            return
        self._tidied = self.clock()
        known = {row["id"] for row in self.database.rows("SELECT id FROM inputs")}
        rows = self.database.rows("SELECT id, attempts FROM jobs")
        attempts = {row["id"]: row["attempts"] for row in rows}
        leftovers.remove(self.inputs, self.jobs, known, attempts, _TIDY_SECONDS)
        self.results.remove_unnamed(known, set(attempts), leftovers.SHARED_SECONDS)

    def new_input(self) -> tuple[str, Path]:
        """Make an id for an input, and the path of its file, which must exist before `add`."""
        name = str(uuid.uuid4())
        return name, self.inputs / f"{name}.wav"

    def new_silence(self, abilities: Abilities) -> Input:
        """Make the input of music without a prompt, which has no file, for `add`.

        Args:
            abilities: of the model, which say what it sounds like.
        """
        return Input(str(uuid.uuid4()), abilities.sample_rate, abilities.channels, 0, 0)

    def add_input(self, input_: Input) -> Input:
        """Keep an input whose file exists, for jobs to come."""
        kept = replace(input_, added=self.clock())
        with self._storing(input_), self.database.transaction(serial=True) as db:
            db.execute(_INSERT_INPUT, astuple(kept))
        return kept

    def input_path(self, name: str) -> Path:
        """The file of an input."""
        return self.inputs / f"{name}.wav"

    @contextmanager
    def _storing(self, *inputs: Input) -> Iterator[None]:
        """Have new inputs in shared storage before the block writes their rows."""
        if self.results is None:
            yield
            return
        new = [each.id for each in inputs if each.frames and self.input(each.id) is None]
        paths = list(map(self.input_path, new))
        try:
            self.results.put(paths)
            yield
        except BaseException:
            if not self.results.gone:
                for path in paths:
                    self.results.remove(path)
            raise

    def present(self, path: Path) -> Path:
        """Return the path of an input or a result, which is fetched if another front has made it.

        It may not be there nevertheless, where it has been swept.

        Raises:
            ResultsGoneError: the store of results does not answer.
        """
        if self.results is not None and not path.exists():
            self.results.fetch(path)
        return path

    def holding(self, *inputs: str) -> AbstractContextManager[None]:
        """Keep these inputs while a job is made of them; see `Holds`."""
        return self._holds.holding(inputs)

    def add(
        self,
        spec: JobSpec,
        input_: Input,
        melody: Input | None = None,
        parent: Parent | None = None,
        client: Client = ANYONE,
        most: int | None = None,
    ) -> Job:
        """Queue a job; the files of its input and its melody exist, or are an earlier job's.

        Args:
            spec: of the job.
            input_: its audio.
            melody: that it follows, if it is new.
            parent: what it plays on from.
            client: whose it is.
            most: jobs that may wait, on all fronts together; None for any number.

        Raises:
            QueueFullError: so many wait.
            ResultsGoneError: the store of results does not answer.
            LimitReachedError: the client has as much as it may.
        """
        name, now = str(uuid.uuid4()), self.clock()
        inputs = [input_] if melody is None else [input_, melody]
        with self._storing(*inputs), self.database.transaction(serial=True) as db:
            if most is not None:
                query = "SELECT COUNT(*) AS n FROM jobs WHERE state = ?"
                (row,) = db.execute(query, (QUEUED,)).fetchall()
                if row["n"] >= most:
                    raise QueueFullError(row["n"])
            turn = self.usage.claim(db, name, client, spec, now)
            own = [replace(each, client=client.name) for each in inputs]
            db.executemany(_INSERT_INPUT, [astuple(each) for each in own])
            above = None if parent is None else self.job(parent.job)
            root = name if parent is None else above.root if above is not None else parent.job
            db.execute(
                "INSERT INTO jobs (id, state, input, asked, created, parent, parent_take, "
                "parent_seconds, root, client, melody, front, turn) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(name, QUEUED, input_.id, json.dumps(spec.to_json()), now),
                    *((None,) * 3 if parent is None else astuple(parent)),
                    *(root, client.name, spec.melody, self.front, turn),
                ),
            )
        job = self.job(name)
        assert job is not None  # noqa: S101 - it was just written
        return job

    def begin(self, job: Job) -> Job | None:
        """Begin an attempt at a queued job; None if it is not queued, or the lease ran out."""
        # Not read afterwards: where that failed, a job would run that nobody runs.
        with self.database.transaction() as db:
            rows = db.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1, front = ?, listened = 0 "
                "WHERE id = ? AND state = ? AND (? = '' OR ? IN (SELECT id FROM fronts)) "
                "RETURNING *",
                (RUNNING, self.front, job.id, QUEUED, self.front, self.front),
            ).fetchall()
        return Job.of(rows[0]) if rows else None

    def complete(self, job: Job, result: dict[str, Any]) -> bool:
        """Complete a job in one transaction; False if that was not its latest attempt.

        Raises:
            ResultsGoneError: the store of results does not answer.
        """
        size = sum(take["bytes"] for take in result["takes"])
        if self.results is not None:
            folder, keys = self.attempt_folder(job), ("file", "new")
            names = {take[key] for take in result["takes"] for key in keys if key in take}
            self.results.put(folder / name for name in sorted(names))
        with self.database.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, finished = ?, result = ?, bytes = ? "
                "WHERE id = ? AND state = ? AND attempts = ?",
                (COMPLETED, self.clock(), json.dumps(result), size, job.id, RUNNING, job.attempts),
            ).rowcount
        return bool(changed)

    def end(self, job_id: str, state: str, error: str, attempts: int | None = None) -> bool:
        """End a job that waits or runs, and failed or was cancelled; False if it does not.

        Args:
            job_id: of the job.
            state: that it ends in.
            error: one line.
            attempts: the attempt that ended so, if one did: another's end it is not.
        """
        before = WAITING if attempts is None else (RUNNING, RUNNING)
        with self.database.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, finished = ?, error = ? "
                "WHERE id = ? AND state IN (?, ?) AND attempts = COALESCE(?, attempts)",
                (state, self.clock(), error, job_id, *before, attempts),
            ).rowcount
            if changed:
                self.usage.give_back(db, job_id)
        if changed:  # what is completed keeps its files
            shutil.rmtree(self.jobs / job_id, ignore_errors=True)
        return bool(changed)

    def put_back(self, job_id: str, attempts: int | None = None) -> bool:
        """Queue a running job again, in its old place; False if it, or that attempt, does not run.

        Args:
            job_id: of the job.
            attempts: see `end`.
        """
        with self.database.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ? "
                "WHERE id = ? AND state = ? AND attempts = COALESCE(?, attempts)",
                (QUEUED, job_id, RUNNING, attempts),
            ).rowcount
        return bool(changed)

    def listen(self, job_id: str) -> None:
        """Let the front that runs a job know that it is listened to on another."""
        with self.database.transaction() as db:
            db.execute("UPDATE jobs SET listened = 1 WHERE id = ? AND listened = 0", (job_id,))

    def queue(self) -> list[QueueEntry]:
        """The jobs that are queued or running, on all fronts, in the order of `waiting`."""
        rows = self.database.rows(
            "SELECT id, state, front, attempts, deaths AS crashes, listened FROM jobs "
            "WHERE state IN (?, ?) ORDER BY deaths, turn, number",
            WAITING,
        )
        return [QueueEntry(**dict(row)) for row in rows]

    def job(self, name: str) -> Job | None:
        """The job of that id; None if there is none or it has been swept."""
        if not leftovers.ID.fullmatch(name):  # what a client sends may be anything
            return None
        rows = self.database.rows("SELECT * FROM jobs WHERE id = ?", (name,))
        return Job.of(rows[0]) if rows else None

    def waiting(self) -> list[Job]:
        """The jobs that are queued or running, in their order; those that crashed come last."""
        query = "SELECT * FROM jobs WHERE state IN (?, ?) ORDER BY deaths, turn, number"
        rows = self.database.rows(query, WAITING)
        return [Job.of(row) for row in rows]

    def input(self, name: str) -> Input | None:
        """The input of that id; None if there is none or it has been swept."""
        rows = self.database.rows("SELECT * FROM inputs WHERE id = ?", (name,))
        return Input(**dict(rows[0])) if rows else None

    def audio_bytes(self, job: Job) -> int:
        """Bytes of a job's audio and of its melody."""
        inputs = [self.input(name) for name in (job.input, job.spec.melody) if name]
        return sum(input_.bytes for input_ in inputs if input_ is not None)

    def attempt_folder(self, job: Job) -> Path:
        """The folder of the latest attempt at a job."""
        return self.jobs / job.id / str(job.attempts)

    def take_path(self, job: Job, number: int) -> Path | None:
        """The file of a completed job's take, counted from 1; None if there is no such take."""
        takes = job.result["takes"] if job.result is not None else []
        if not 1 <= number <= len(takes):
            return None
        return self.attempt_folder(job) / str(takes[number - 1]["file"])

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        rows = self.database.rows("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    # --- Room -----------------------------------------------------------------------------------

    def bytes(self) -> int:
        """Bytes of all inputs and results."""
        return self._room.bytes()

    def sweep(self, keep_seconds: float, limit: int, undo_seconds: float = 0.0) -> int:
        """Remove what was kept long enough, and what must make room; see `Room.sweep`."""
        if self.results is not None:
            self._tidy()
        return self._room.sweep(self.clock(), keep_seconds, limit, undo_seconds)
