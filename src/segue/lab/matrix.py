"""Variants side by side: `segue matrix`.

Every row is a `segue bench` in a process of its own, so that peak memory and warm-up are its own,
with one seed for all.  The folder always shows how far the matrix is: `matrix.json` is written anew
after each step, and a row counts as done when `rows/NAME.json` exists, which is written last.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..channel import replay
from ..errors import RequestError, SegueError
from ..outputs import write_json
from ..progress import Progress
from . import bench
from .files import read_json
from .pick import pick
from .requests import MatrixRequest
from .results import FILE, SCHEMA, Matrix
from .variant import BASELINE, Variant

if TYPE_CHECKING:
    from .quality.request import QualityRequest

SECONDS_TO_STOP = 5.0

Json = dict[str, Any]


class Folder:
    """A matrix on disk.

    Attributes:
        path: where.
        matrix: what `matrix.json` holds.
    """

    def __init__(self, path: Path, matrix: Json) -> None:
        self.path, self.matrix = path, matrix

    @classmethod
    def make(cls, path: Path, request: MatrixRequest) -> Folder:
        """Begin a matrix in a new folder.

        Raises:
            RequestError: it exists, or it cannot be made.
            OutputError: it cannot be written to.
        """
        try:
            (path / "rows").mkdir(parents=True)
        except OSError as error:
            raise RequestError(f"{path}: cannot be made ({error.strerror})") from None
        folder = cls(path, request.to_json())
        folder.write()
        return folder

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Resume a matrix; rows that are done stay.

        Raises:
            RequestError: there is none.
        """
        folder = cls(path, read_json(path / FILE, SCHEMA))
        for row in folder.matrix["rows"]:
            folder.refresh(row)
        return folder

    def write(self) -> None:
        """Write `matrix.json`."""
        write_json(self.path / FILE, self.matrix)

    def bench_path(self, row: Json) -> Path:
        """Return the file of a row's bench report."""
        return self.path / "rows" / f"{row['name']}.json"

    def quality_path(self, row: Json) -> Path:
        """Return the file of a row's quality report."""
        return self.path / "rows" / f"{row['name']}.quality.json"

    def chunks_path(self, row: Json) -> Path:
        """Return the folder of what was found of a row's quality while that is not all."""
        return self.path / "rows" / f"{row['name']}.quality"

    def log_path(self, row: Json) -> Path:
        """Return the file of what a row's process printed, which stays if it failed."""
        return self.path / "rows" / f"{row['name']}.log"

    def refresh(self, row: Json) -> None:
        """Set a row to what is on disk; not done, or damaged, is missing."""
        audio = {kind: f"{row['name']}_{kind}.wav" for kind in ("full", "continuation")}
        try:
            found = read_json(self.bench_path(row), bench.SCHEMA)
            whole = all((self.path / name).is_file() for name in audio.values())
        except RequestError:
            whole = False
        if not whole:
            row |= {"status": "missing", "error": None, "bench": None, "quality": None}
            row["audio"] = None
            return
        row |= {"status": "ok", "error": None, "bench": found, "audio": audio}
        self.log_path(row).unlink(missing_ok=True)
        row["quality"] = None
        with suppress(OSError, ValueError):
            row["quality"] = json.loads(self.quality_path(row).read_text(encoding="utf-8"))


# --- Rows ---------------------------------------------------------------------------------------


def run_rows(folder: Folder, progress: Progress, console: Console) -> None:
    """Bench every row that is not done; one that fails has its `error`, and others go on."""
    rows = folder.matrix["rows"]
    left = [row for row in rows if row["status"] != "ok"]
    seconds: list[float] = []
    for n, row in enumerate(left):
        console.print(
            f"row {rows.index(row) + 1} of {len(rows)}: {row['name']}{_time_left(seconds, n, left)}"
        )
        before = time.perf_counter()
        error = _bench(folder, row, progress)
        seconds.append(time.perf_counter() - before)
        folder.refresh(row)
        if row["status"] != "ok":
            row |= {"status": "failed", "error": error or "it wrote no report"}
            console.print(f"  failed: {row['error']}")
        folder.write()


def _time_left(seconds: Sequence[float], done: int, left: Sequence[Json]) -> str:
    if not seconds:
        return ""
    rest = sum(seconds) / len(seconds) * (len(left) - done)
    shown = f"{rest:.0f} s" if rest < 90 else f"{rest / 60:.0f} min"
    return f" (about {shown} left for the rows)"


def _bench(folder: Folder, row: Json, progress: Progress) -> str | None:
    """Run one row; the result is why it failed, None if it did not."""
    command = [sys.executable, "-P", "-m", "segue", "bench", *row_options(folder, row)]
    with folder.log_path(row).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            with process.stdout:
                replay(process.stdout, progress)
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
    return failure(code, folder.log_path(row).read_text(encoding="utf-8", errors="replace"))


def failure(code: int, log: str) -> str | None:
    """Why a row's process failed, None if it did not.

    Args:
        code: that it ended with.
        log: what it wrote on its error stream.
    """
    if code == 0:
        return None
    if code < 0:
        return f"its process was ended by {_signal(-code)}"
    printed = [line.strip() for line in log.split("\n") if line.strip()]
    return printed[-1].removeprefix("segue: ") if printed else f"its process ended with {code}"


def _signal(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name


def engine_of(matrix: Json) -> str:
    """What runs all rows and measures them: the first one's engine where none was chosen."""
    chosen: str = matrix["request"]["engine"]
    ran = [row["bench"]["engine"] for row in matrix["rows"] if row["bench"] is not None]
    return ran[0] if chosen == "auto" and ran else chosen


def row_options(folder: Folder, row: Json, there: Path | None = None) -> list[str]:
    """The options of `segue bench` for a row.

    Args:
        folder: of the matrix.
        row: of it.
        there: a folder on another machine, which has the prompt and gets what is written.
    """
    matrix, request = folder.matrix, folder.matrix["request"]
    prompt, written = matrix["prompt"], folder.path
    report = folder.bench_path(row)
    if there is not None:
        prompt, written, report = there / Path(prompt).name, there, there / report.name
    variant = Variant.from_json(row["name"], row["variant"])
    options = {
        "prompt": prompt,
        "model": variant.checkpoint or matrix["model"],
        "base-model": matrix["base_model"],
        "engine": engine_of(matrix),
        "seed": matrix["seed"],
        "prompt-seconds": request["prompt_seconds"],
        "output-seconds": request["output_seconds"],
        "text": request["text"],
        "top-k": request["top_k"],
        "temperature": request["temperature"],
        "guidance-coef": request["guidance_coef"],
        "extend-stride": request.get("extend_stride"),  # older folders have none
        "top-p": request.get("top_p"),
        "runs": request["runs"],
        "save-prefix": written / row["name"],
        "report-json": report,
    }
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    words.append(f"--prompt-from-{request['prompt_from']}")
    if request["allow_empty_text_cfg"]:
        words.append("--allow-empty-text-cfg")
    return [*words, *variant.options(), "--progress-lines"]


# --- Quality, pick, report ----------------------------------------------------------------------


def measure_quality(folder: Folder, progress: Progress, console: Console) -> None:
    """Measure every row that runs and was not measured; a failure goes into its `error`."""
    # Late: most commands do without what it imports.
    from .quality.measure import measure

    for row, wanted in quality_requests(folder):
        console.print(f"quality of {row['name']}")
        try:
            found = measure(wanted, progress, folder.chunks_path(row)).to_json()
        except SegueError as error:
            keep_quality(folder, row, str(error), console)
        else:
            keep_quality(folder, row, found, console)


def quality_requests(folder: Folder) -> list[tuple[Json, QualityRequest]]:
    """The rows that run and were not measured, and how they are to be."""
    from .quality.request import QualityRequest  # late, as above

    matrix, request = folder.matrix, folder.matrix["request"]
    rows = [row for row in matrix["rows"] if row["status"] == "ok"]
    variants = [Variant.from_json(row["name"], row["variant"]) for row in rows]
    baseline = next((variant for variant in variants if variant.plain), BASELINE)
    return [
        (
            row,
            QualityRequest(
                variant=variant,
                model=matrix["model"],
                base_model=matrix["base_model"],
                baseline=baseline,
                engine=engine_of(matrix),
                prompts=[Path(prompt) for prompt in request["quality_prompts"]],
                judge=request.get("judge"),
                text=request["text"],
                seed=matrix["seed"],
            ),
        )
        for row, variant in zip(rows, variants, strict=True)
        if row["quality"] is None
    ]


def keep_quality(folder: Folder, row: Json, found: Json | str, console: Console) -> None:
    """Keep what was measured of a row, or the line that says why it could not be."""
    if isinstance(found, str):
        row["error"] = f"quality: {found}"
        console.print(f"  failed: {found}")
    else:
        row["quality"] = found
        write_json(folder.quality_path(row), found)
        shutil.rmtree(folder.chunks_path(row), ignore_errors=True)
    folder.write()


def choose(folder: Folder) -> Matrix:
    """Name the pick in `matrix.json`, and return everything that was measured."""
    matrix = Matrix.from_json(folder.matrix)
    best = pick(matrix)
    folder.matrix["pick"] = None if best is None else best.to_json()
    folder.write()
    return replace(matrix, pick=best)


def report(folder: Folder, matrix: Matrix, progress: Progress) -> list[Path]:
    """Write the reports for people of what `choose` returned; the result is their files."""
    from .report.write import write_report  # late, as above

    with progress.stage("write the report"):
        return write_report(folder.path, matrix)
