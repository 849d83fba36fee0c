"""A matrix on the machines of a Ray cluster: `segue matrix --cluster`.

Each row is the same `segue bench` as here, in a process of a machine that does nothing else
meanwhile, and each row's quality a task for every chunk of the music.  What they write comes back
and is kept as it arrives, so a matrix that was stopped resumes in a cluster or without one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from ..atomic import replacing
from ..cluster import outcomes, whole_machine
from ..errors import SegueError
from ..progress import SILENT
from .matrix import Folder, engine_of, failure, keep_quality, quality_requests, row_options
from .quality.chunks import Chunk, Found, KeptChunks
from .quality.measure import Subject, measure_chunks, report_of
from .quality.request import QualityRequest

_THERE = Path("/\0")
"""Stands for a folder of the machine that a task runs on; no option that is typed has it."""

Json = dict[str, Any]


def run_rows(folder: Folder, console: Console) -> None:
    """Bench every row that is not done, see `segue.lab.matrix.run_rows`.

    Where no engine was chosen, the first row runs before all others: its engine is theirs.
    """
    left = [row for row in folder.matrix["rows"] if row["status"] != "ok"]
    first = left[:1] if engine_of(folder.matrix) == "auto" else []
    for rows in (first, left[len(first) :]):
        _run_together(folder, rows, console)


def _run_together(folder: Folder, rows: Sequence[Json], console: Console) -> None:
    prompt = Path(folder.matrix["prompt"])
    music = ray.put(prompt.read_bytes())

    def submit(row: Json) -> Any:
        console.print(f"row {folder.matrix['rows'].index(row) + 1}: {row['name']} waits or runs")
        words = row_options(folder, row, _THERE)
        return ray.remote(bench).options(**whole_machine()).remote(words, prompt.name, music)

    for row, outcome, error in outcomes(rows, submit):
        if error is None:
            code, log, files = outcome
            error = failure(code, log)
            if error is None:
                _keep(folder, row, files)
            else:
                folder.log_path(row).write_text(log, encoding="utf-8")
        folder.refresh(row)
        if row["status"] != "ok":
            row |= {"status": "failed", "error": error or "it wrote no report"}
            console.print(f"{row['name']} failed: {row['error']}")
        else:
            console.print(f"{row['name']} is done")
        folder.write()


def _keep(folder: Folder, row: Json, files: dict[str, bytes]) -> None:
    """Write what a row has written on its machine; the report last, which says that it is done."""
    report = folder.bench_path(row)
    for name in sorted(files, key=lambda name: name == report.name):
        path = report if name == report.name else folder.path / name
        content = files[name]
        if path == report:
            there = str(_THERE).encode()
            prompt = Path(folder.matrix["prompt"])
            content = content.replace(there + b"/" + prompt.name.encode(), str(prompt).encode())
            content = content.replace(there, str(folder.path).encode())
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def measure_quality(folder: Folder, console: Console) -> None:
    """Measure every row that runs and was not measured, see `segue.lab.matrix.measure_quality`."""
    rows: list[_Quality] = []
    seconds: Sequence[float] | None = None
    for row, request in quality_requests(folder):
        try:
            rows.append(_Quality(folder, row, Subject.prepare(request, SILENT, seconds)))
        except SegueError as error:
            keep_quality(folder, row, str(error), console)
        else:
            seconds = rows[-1].work.seconds  # all rows have the same music

    def submit(task: tuple[_Quality, Chunk]) -> Any:
        quality, chunk = task
        name, count = quality.row["name"], len(quality.chunks)
        console.print(f"quality of {name}, part {chunk.number + 1} of {count}, waits or runs")
        given = (quality.work.request, seconds, chunk)
        return ray.remote(measure).options(**whole_machine()).remote(*given)

    tasks = [(quality, chunk) for quality in rows for chunk in quality.left()]
    for quality in rows:
        quality.finish(console)  # where all is there already
    for (quality, chunk), outcome, line in outcomes(tasks, submit):
        quality.take(chunk, line or outcome, console)


class _Quality:
    """What is found of a row's quality, chunk by chunk.

    Args:
        folder: of the matrix.
        row: of it.
        subject: what is measured.
    """

    def __init__(self, folder: Folder, row: Json, subject: Subject) -> None:
        self.row, self.work, self.chunks = row, subject.work, subject.chunks
        self._folder = folder
        self._kept = KeptChunks(folder.chunks_path(row), self.work)
        self._found = [self._kept.read(chunk) for chunk in self.chunks]

    def left(self) -> list[Chunk]:
        """The chunks that are not measured."""
        return [
            chunk for chunk, found in zip(self.chunks, self._found, strict=True) if found is None
        ]

    def take(self, chunk: Chunk, outcome: Found | str, console: Console) -> None:
        """Keep what was found of a chunk, or why it could not be measured."""
        if isinstance(outcome, str):
            keep_quality(self._folder, self.row, outcome, console)
            return
        self._kept.write(chunk, outcome)
        self._found[chunk.number] = outcome
        self.finish(console)

    def finish(self, console: Console) -> None:
        """Write the row's report once there is everything for it."""
        found = [each for each in self._found if each is not None]
        if len(found) == len(self.chunks):
            keep_quality(self._folder, self.row, report_of(self.work, found).to_json(), console)
            console.print(f"quality of {self.row['name']} is done")


def bench(words: Sequence[str], prompt: str, music: bytes) -> tuple[int, str, dict[str, bytes]]:
    """Run `segue bench` on this machine.

    Args:
        words: its options.
        prompt: the name of its file.
        music: what is in it.

    Returns:
        What it ended with, what it wrote on its error stream, and its files by their names.
    """
    here = Path(tempfile.mkdtemp(prefix="segue-"))
    try:
        (here / prompt).write_bytes(music)
        words = [word.replace(str(_THERE), str(here)) for word in words]
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "segue", "bench", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        (here / prompt).unlink()
        files = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
        for name in [name for name in files if name.endswith(".json")]:
            files[name] = files[name].replace(str(here).encode(), str(_THERE).encode())
        return done.returncode, done.stderr.decode(errors="replace"), files
    finally:
        shutil.rmtree(here, ignore_errors=True)


def measure(request: QualityRequest, seconds: Sequence[float], chunk: Chunk) -> Found | str:
    """Measure what a variant loses on some of the music, on this machine.

    Args:
        request: what is measured.
        seconds: length of each clip, which have been checked.
        chunk: the music.

    Returns:
        What was found, or one line that says why nothing was.
    """
    try:
        subject = Subject.prepare(request, SILENT, seconds)
        ((_, found),) = measure_chunks(subject, [chunk])
    except SegueError as error:
        return str(error)
    return found
